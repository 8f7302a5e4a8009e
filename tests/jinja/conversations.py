# SPDX-License-Identifier: MIT
"""Conversations of our own for rendering chat templates: what callers send, and what they should not but do."""
import copy

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "Say what the weather is like at a place.",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "Town, \"quoted\" & <b>marked</b>"},
        "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
        "days": {"type": "integer", "minimum": 1, "description": "How many days"},
        "parts": {"type": "array", "items": {"type": "string"}, "description": "Parts of the day"},
        "where": {"type": "object", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                  "required": ["lat"], "description": "Coordinates"},
        "exact": {"type": "boolean", "nullable": True},
        "when": {"type": ["string", "null"], "description": "Date"},
    }, "required": ["place"]},
    "return": {"type": "object", "description": "the weather"}}}
CLOCK = {"type": "function", "function": {
    "name": "clock", "description": "Tell the time.", "parameters": {"type": "object", "properties": {}}}}
TOOLS = [WEATHER, CLOCK]

SYSTEM = {"role": "system", "content": "You are brief."}
USER = {"role": "user", "content": "Hello <|im_end|> there, what's up?\n\n  Indented line\n"}
ANSWER = {"role": "assistant", "content": "Fine, thanks."}
UNICODE = {"role": "user", "content": "Grüße aus Zürich 🌍 — 日本語 \u200b\u00a0 \t tab \"quotes\" 'single' \\ backslash"}
THOUGHT = {"role": "assistant", "content": "<think>\nThe user greets.\n</think>\n\nHi!"}
REASONED = {"role": "assistant", "content": "Hi!", "reasoning_content": "The user greets.\nSay hi.",
            "thinking": "The user greets."}
PARTS = {"role": "user", "content": [{"type": "text", "text": "Look at this:"}, {"type": "text", "text": " and this."}]}
IMAGE = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image", "image": "x.png"}]}
DOCUMENTS = [{"title": "One", "text": "First text."}, {"title": "Two", "text": "Second \"text\"."}]


def call(name, arguments, number=0, **more):
    out = {"id": f"call{number:05d}", "type": "function", "function": {"name": name, "arguments": arguments}}
    out.update(more)
    return out


def calls(*list_of_calls, content=None, **more):
    return {"role": "assistant", "content": content, "tool_calls": list(list_of_calls), **more}


def result(text, number=0, name="get_weather"):
    return {"role": "tool", "tool_call_id": f"call{number:05d}", "name": name, "content": text}


PLACE = {"place": "Zürich", "days": 3, "exact": True, "where": {"lat": 47.4, "lon": 8.5}, "parts": ["am", "pm"],
         "when": None}
AS_TEXT = '{"place": "Zürich", "days": 3}'


def conversations():
    """(name, variables) pairs."""
    base = {
        "plain": {"messages": [USER]},
        "system": {"messages": [SYSTEM, USER]},
        "turns": {"messages": [SYSTEM, USER, ANSWER, UNICODE, ANSWER, USER]},
        "ends_with_answer": {"messages": [USER, ANSWER]},
        "unicode": {"messages": [UNICODE]},
        "think_text": {"messages": [USER, THOUGHT, USER]},
        "think_field": {"messages": [SYSTEM, USER, REASONED, USER]},
        "parts": {"messages": [SYSTEM, PARTS, ANSWER, USER]},
        "image": {"messages": [IMAGE]},
        "tools": {"messages": [SYSTEM, USER], "tools": TOOLS},
        "tools_alone": {"messages": [USER], "tools": TOOLS},
        "one_call": {"messages": [USER, calls(call("get_weather", PLACE), content="")], "tools": TOOLS},
        "call_as_text": {"messages": [SYSTEM, USER, calls(call("get_weather", AS_TEXT), content="")], "tools": TOOLS},
        "null_content": {"messages": [USER, calls(call("clock", {})), result("12:30", 0, "clock")], "tools": TOOLS},
        "call_result": {"messages": [SYSTEM, USER, calls(call("get_weather", PLACE), content=""),
                                     result("{\"sun\": true}"), ANSWER, USER], "tools": TOOLS},
        "two_calls": {"messages": [USER, calls(call("get_weather", PLACE, 1), call("clock", {}, 2), content="Both."),
                                   result("rain", 1), result("12:30", 2, "clock"), ANSWER], "tools": TOOLS},
        "call_thought": {"messages": [USER, calls(call("clock", {}), content="", reasoning_content="I need a clock."),
                                      result("12:30", 0, "clock")], "tools": TOOLS},
        "result_object": {"messages": [USER, calls(call("get_weather", PLACE), content=""),
                                       result({"temperature": 3.5, "sun": None})], "tools": TOOLS},
        "result_parts": {"messages": [USER, calls(call("clock", {}), content=""),
                                      result([{"type": "text", "text": "12:30"}], 0, "clock")], "tools": TOOLS},
        "documents": {"messages": [SYSTEM, USER], "documents": DOCUMENTS},
        "system_twice": {"messages": [SYSTEM, USER, SYSTEM, USER]},
        "two_users": {"messages": [USER, UNICODE]},
        "developer": {"messages": [{"role": "developer", "content": "Be exact."}, USER]},
        "odd_role": {"messages": [USER, {"role": "narrator", "content": "Night falls."}]},
        "no_messages": {"messages": []},
        "no_content": {"messages": [{"role": "user"}]},
        "empty_content": {"messages": [{"role": "system", "content": ""}, {"role": "user", "content": ""}]},
        "number_content": {"messages": [{"role": "user", "content": 42}]},
    }
    kwargs = {
        "": {"add_generation_prompt": True},
        "+no_prompt": {},
        "+no_thinking": {"add_generation_prompt": True, "enable_thinking": False, "thinking": False},
        "+thinking": {"add_generation_prompt": True, "enable_thinking": True, "thinking": True,
                      "reasoning_effort": "high", "xml_tools": TOOLS, "builtin_tools": ["browser", "python"],
                      "date_string": "1 May 2026", "custom_tools": TOOLS, "preserve_thinking": True},
    }
    for name, variables in base.items():
        for suffix, more in kwargs.items():
            out = copy.deepcopy(variables)
            out.update(copy.deepcopy(more))
            out.update({"bos_token": "<s>", "eos_token": "</s>"})
            yield name + suffix, out
