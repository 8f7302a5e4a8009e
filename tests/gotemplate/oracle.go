// SPDX-License-Identifier: MIT
//
// The reference for scripts/perigee/gotemplate: renders jobs with Go's own text/template.
// Reads JSON lines {"template", "data"} or {"template", "conversation"} from standard input and
// answers each with a line {"ok", "text"}; text is the output or the error.  A job with data is
// run over the decoded JSON; a conversation (messages, tools, think, prompt, suffix) is turned
// into the types that Ollama's templates see, by the rules of the specification, written anew here.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/template"
	"text/template/parse"
)

type typeNames []string

func (t *typeNames) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = typeNames{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(t))
}

func (t typeNames) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

func (t typeNames) String() string {
	switch len(t) {
	case 0:
		return ""
	case 1:
		return t[0]
	}
	return fmt.Sprint([]string(t))
}

type property struct {
	AnyOf       []property `json:"anyOf,omitempty"`
	Type        typeNames  `json:"type,omitempty"`
	Items       any        `json:"items,omitempty"`
	Description string     `json:"description,omitempty"`
	Enum        []any      `json:"enum,omitempty"`
	Properties  *nested    `json:"properties,omitempty"`
	Required    []string   `json:"required,omitempty"`
}

func (p property) ToTypeScriptType() string {
	names := map[string]string{"string": "string", "number": "number", "integer": "number",
		"boolean": "boolean", "array": "any[]", "object": "Record<string, any>", "null": "null"}
	var out []string
	for _, one := range p.AnyOf {
		out = append(out, one.ToTypeScriptType())
	}
	if len(p.AnyOf) == 0 {
		for _, name := range p.Type {
			if to, ok := names[name]; ok {
				out = append(out, to)
			} else {
				out = append(out, "any")
			}
		}
	}
	if len(out) == 0 {
		return "any"
	}
	return strings.Join(out, " | ")
}

// Properties inside a property keep their order, which the test data has sorted.
type nested map[string]property

type properties map[string]property

func asJSON(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func (p properties) String() string { return asJSON(p) }

type parameters struct {
	Type       string     `json:"type"`
	Defs       any        `json:"$defs,omitempty"`
	Items      any        `json:"items,omitempty"`
	Required   []string   `json:"required,omitempty"`
	Properties properties `json:"properties"`
}

type function struct {
	Name        string     `json:"name"`
	Description string     `json:"description,omitempty"`
	Parameters  parameters `json:"parameters"`
}

type tool struct {
	Type     string   `json:"type"`
	Items    any      `json:"items,omitempty"`
	Function function `json:"function"`
}

func (t tool) String() string { return asJSON(t) }

type tools []tool

func (t tools) String() string { return asJSON(t) }

type arguments map[string]any

func (a arguments) String() string { return asJSON(a) }

type callFunction struct {
	Index     int
	Name      string
	Arguments arguments
}

type call struct {
	ID       string
	Function callFunction
}

type message struct {
	Role, Content, Thinking string
	Images                  []string
	ToolCalls               []call
	ToolName, ToolCallID    string
}

// What a conversation of ours holds.
type conversation struct {
	Messages []struct {
		Role, Content, Thinking string
		ToolCalls               []struct {
			ID       string
			Function struct {
				Name      string
				Arguments json.RawMessage
			}
		} `json:"tool_calls"`
		ToolCallID string `json:"tool_call_id"`
		Name       string
	}
	Tools  tools
	Think  any
	Prompt string
	Suffix string
}

func (c *conversation) collate() (string, []*message) {
	var system []string
	var out []*message
	names := map[string]string{}
	for _, m := range c.Messages {
		to := &message{Role: m.Role, Content: m.Content, Thinking: m.Thinking, ToolCallID: m.ToolCallID}
		for _, given := range m.ToolCalls {
			one := call{ID: given.ID}
			one.Function.Name = given.Function.Name
			raw := []byte(given.Function.Arguments)
			var text string
			if json.Unmarshal(raw, &text) == nil {
				raw = []byte(text)
			}
			if err := json.Unmarshal(raw, &one.Function.Arguments); err != nil {
				panic(err)
			}
			names[one.ID] = one.Function.Name
			to.ToolCalls = append(to.ToolCalls, one)
		}
		if m.Role == "tool" {
			to.ToolName = m.Name
			if to.ToolName == "" {
				to.ToolName = names[m.ToolCallID]
			}
		}
		if m.Role == "system" {
			system = append(system, m.Content)
		}
		if n := len(out); n > 0 && out[n-1].Role == m.Role && m.Role != "tool" {
			out[n-1].Content += "\n\n" + m.Content
		} else {
			out = append(out, to)
		}
	}
	return strings.Join(system, "\n\n"), out
}

var funcs = template.FuncMap{
	"json":             func(v any) string { return asJSON(v) },
	"currentDate":      func(...string) string { return "2026-03-09" },
	"yesterdayDate":    func() string { return "2026-03-08" },
	"toTypeScriptType": func(v any) string {
		if p, ok := v.(property); ok {
			return p.ToTypeScriptType()
		}
		return "any"
	},
}

// The names of fields in the text of a tree are enough to tell whether it uses one.
func uses(t *template.Template, name string) bool {
	for _, one := range t.Templates() {
		if one.Tree != nil && strings.Contains(one.Tree.Root.String(), "."+name) {
			return true
		}
	}
	return false
}

// Drop what follows the first printed .Response; says whether it was met.
func cut(list *parse.ListNode) bool {
	for i, node := range list.Nodes {
		found := false
		switch n := node.(type) {
		case *parse.ActionNode:
			found = strings.Contains(n.String(), ".Response")
		case *parse.IfNode:
			found = cutBranch(&n.BranchNode)
		case *parse.RangeNode:
			found = cutBranch(&n.BranchNode)
		case *parse.WithNode:
			found = cutBranch(&n.BranchNode)
		}
		if found {
			list.Nodes = list.Nodes[:i+1]
			return true
		}
	}
	return false
}

func cutBranch(b *parse.BranchNode) bool {
	if cut(b.List) {
		if b.ElseList != nil {
			b.ElseList.Nodes = nil
		}
		return true
	}
	return b.ElseList != nil && cut(b.ElseList)
}

func render(t *template.Template, c *conversation) (string, error) {
	system, messages := c.collate()
	level, isText := c.Think.(string)
	if on, ok := c.Think.(bool); ok && on {
		level, isText = "medium", true
	}
	data := map[string]any{"Think": isText && level != "", "ThinkLevel": level,
		"IsThinkSet": c.Think != nil, "Response": ""}
	var out bytes.Buffer
	if c.Prompt != "" && c.Suffix != "" {
		data["Prompt"], data["Suffix"] = c.Prompt, c.Suffix
		return finish(&out, t.Execute(&out, data))
	} else if uses(t, "Messages") {
		data["System"], data["Messages"], data["Tools"] = system, messages, c.Tools
		return finish(&out, t.Execute(&out, data))
	}
	if !uses(t, "Response") {
		t = template.Must(template.Must(t.Clone()).Parse(t.Tree.Root.String() + "{{ .Response }}"))
	}
	turn := map[string]string{}
	run := func(t *template.Template) error {
		data["System"], data["Prompt"], data["Response"] = turn["system"], turn["user"], turn["assistant"]
		turn = map[string]string{}
		return t.Execute(&out, data)
	}
	for _, m := range messages {
		ends := m.Role == "system" && turn["user"]+turn["assistant"] != "" ||
			m.Role == "user" && turn["assistant"] != ""
		if ends {
			if err := run(t); err != nil {
				return finish(&out, err)
			}
		}
		turn[m.Role] = m.Content
	}
	last := template.Must(t.Clone())
	cut(last.Tree.Root)
	return finish(&out, run(last))
}

func finish(out *bytes.Buffer, err error) (string, error) { return out.String(), err }

func answer(line []byte) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	var job struct {
		Template     string
		Data         any
		Conversation *conversation
	}
	if err := json.Unmarshal(line, &job); err != nil {
		return "", err
	}
	t, err := template.New("").Option("missingkey=zero").Funcs(funcs).Parse(job.Template)
	if err != nil {
		return "", err
	}
	if job.Conversation != nil {
		return render(t, job.Conversation)
	}
	var out bytes.Buffer
	err = t.Execute(&out, job.Data)
	return finish(&out, err)
}

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			text, failure := answer(line)
			if failure != nil {
				text = failure.Error()
			}
			out.Encode(map[string]any{"ok": failure == nil, "text": text})
		}
		if err != nil {
			return
		}
	}
}
