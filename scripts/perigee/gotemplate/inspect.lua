-- SPDX-License-Identifier: MIT
-- What a template's tree tells without running it: the names it uses, the texts around thinking
-- and tool calls, and the tree up to the reply.
local M = {}

local function visit_pipe(pipe, see)
  for _, cmd in ipairs(pipe.cmds) do
    for _, arg in ipairs(cmd) do
      see(arg)
      if arg.kind == "pipe" then
        visit_pipe(arg, see)
      elseif arg.kind == "chain" and arg.node.kind == "pipe" then
        visit_pipe(arg.node, see)
      elseif arg.kind == "chain" then
        see(arg.node)
      end
    end
  end
end

local function visit(list, see)
  for _, node in ipairs(list) do
    if node.pipe then
      visit_pipe(node.pipe, see)
    end
    visit(node.list or {}, see)
    visit(node.other or {}, see)
  end
end

--- Names of fields that a template uses, in lower case.
---@param list table
---@param defined table<string, table>
---@return table<string, boolean>
function M.names(list, defined)
  local names = {}
  local function see(arg)
    for _, name in ipairs(arg.names or {}) do
      if arg.kind ~= "pipe" then
        names[name:lower()] = true
      end
    end
  end
  visit(list, see)
  for _, body in pairs(defined) do
    visit(body, see)
  end
  return names
end

--- Fields that begin a chain (.Sytem, $.Sytem) and that nothing has, each once, in their order.
---@param list table
---@param defined table<string, table>
---@param known table<string, boolean>
---@return { name: string, at: integer }[]
function M.strange(list, defined, known)
  local out, seen = {}, {}
  local function see(arg)
    local name = (arg.kind == "field" or arg.kind == "var" and arg.name == "$") and arg.names[1]
    if name and not known[name] and not seen[name] then
      seen[name] = true
      out[#out + 1] = { name = name, at = arg.at }
    end
  end
  visit(list, see)
  for _, body in pairs(defined) do
    visit(body, see)
  end
  return out
end

local function pipe_uses(pipe, name, first_only)
  local found = false
  visit_pipe(pipe, function(arg)
    if arg.kind == "field" or arg.kind == "var" and not first_only then
      for i, one in ipairs(arg.names) do
        found = found or one == name and (i == 1 or not first_only)
      end
    end
  end)
  return found
end

------------------------------------------------------------ thinking

local function trimmed(s)
  return s:find("%S") and s:match("^%s*(.*%S)") or ""
end

local function text_node(node)
  return node and node.kind == "text" and node or nil
end

local function thinking_in(list, in_messages, found)
  for _, node in ipairs(list) do
    if node.pipe and in_messages and pipe_uses(node.pipe, "Thinking", true) then
      found.open = text_node(list[1]) or found.open
      found.close = text_node(list[#list]) or found.close
    end
    local inside = in_messages
    if node.kind == "range" then
      inside = pipe_uses(node.pipe, "Messages")
    end
    thinking_in(node.list or {}, inside, found)
    thinking_in(node.other or {}, inside, found)
  end
end

--- The texts before and after a message's thinking, from the part of a loop over the messages that
--- prints it; nil: there is none.
---@param list table
---@return { open: string, close: string }?
function M.thinking(list)
  local found = {}
  thinking_in(list, false, found)
  local open = found.open and trimmed(found.open.text) or ""
  local close = found.close and trimmed(found.close.text) or ""
  return open ~= "" and close ~= "" and { open = open, close = close } or nil
end

------------------------------------------------------------ tool calls

-- The first part that is run when a message has calls.
local function calls_part(list)
  for _, node in ipairs(list) do
    if node.kind == "if" then
      for _, cmd in ipairs(node.pipe.cmds) do
        for _, arg in ipairs(cmd) do
          for _, name in ipairs(arg.kind == "field" and arg.names or {}) do
            if name == "ToolCalls" then
              return node.list
            end
          end
        end
      end
    end
    local part = calls_part(node.list or {}) or calls_part(node.other or {})
    if part then
      return part
    end
  end
  return nil
end

-- The first text that is not blank, before anything that prints; says whether to go on.
local function first_text(list)
  for _, node in ipairs(list) do
    if node.kind == "text" and node.text:find("%S") then
      return node.text, false
    elseif node.kind == "action" then
      return nil, false
    elseif node.list then
      local text = first_text(node.list)
      if not text and node.other then
        text = first_text(node.other)
      end
      return text, false
    end
  end
  return nil, true
end

--- The text by which tool calls are known: what the template writes first for .ToolCalls, up to a
--- brace; "{" when there is none.
---@param list table
---@return string
function M.tool_tag(list)
  local part = calls_part(list)
  local text = part and first_text(part)
  local tag = text and trimmed(text:gsub("\r\n", "\n"):match("^[^{]*"))
  return tag and tag ~= "" and tag or "{"
end

------------------------------------------------------------ the tree up to the reply

local cut_list

-- A pipeline up to the use of .Response, or nil when nothing of it is left.
local function cut_pipe(pipe, state)
  if state.is_cut then
    return nil
  end
  local out = { kind = "pipe", at = pipe.at, names = pipe.names, assigns = pipe.assigns, cmds = {} }
  for _, cmd in ipairs(pipe.cmds) do
    local args = { at = cmd.at }
    for _, arg in ipairs(cmd) do
      local kept = not state.is_cut and arg or nil
      if kept and arg.kind == "pipe" then
        kept = cut_pipe(arg, state)
      elseif kept and arg.kind == "field" then
        for _, name in ipairs(arg.names) do
          state.is_cut = state.is_cut or name == "Response"
        end
      end
      args[#args + 1] = kept
    end
    if #args == 0 then
      return nil
    end
    out.cmds[#out.cmds + 1] = args
  end
  return out
end

local function cut_node(node, state)
  if node.kind == "action" then
    local pipe = cut_pipe(node.pipe, state)
    return pipe and { kind = "action", at = node.at, pipe = pipe }
  elseif node.list then
    return { kind = node.kind, at = node.at, pipe = node.pipe, list = cut_list(node.list, state),
      other = node.other and cut_list(node.other, state) }
  end
  return node
end

cut_list = function(list, state)
  local out = {}
  for _, node in ipairs(list) do
    if state.is_cut then
      break
    end
    out[#out + 1] = cut_node(node, state)
  end
  return out
end

--- The tree without what follows the first place that prints .Response.
---@param list table
---@return table
function M.up_to_reply(list)
  return cut_list(list, { is_cut = false })
end

return M
