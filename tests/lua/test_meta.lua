-- The annotations for editors name exactly the methods of Var, with their signatures, and every word of the library.
local core = require "moegauge.core"

local here = debug.traceback():match("(%S*)/tests/lua/test_meta%.lua")
local file <close> = assert(io.open(here .. "/scripts/meta/moegauge.lua"))
local text = file:read "a"

local annotated = {}
local section = text:match("%-%-%-@class moegauge%.Var\n(.*)$")
for name, signature in section:gmatch("%-%-%-@field (%S+) fun(%b():[^\n]*)") do
  annotated[name] = signature:gsub("^%(self: Var,? ?", "(")
end

for name, signature in pairs(core.var_methods()) do
  assert(annotated[name] == signature, ("Var:%s%s is annotated as %s"):format(name, signature, tostring(annotated[name])))
  annotated[name] = nil
end
assert(next(annotated) == nil, "annotated, but not there: Var:" .. tostring(next(annotated)))

for _, name in ipairs { "experiment", "dense", "moe", "model", "corpus", "train", "evaluate", "cluster", "inspect", "load", "draw", "skip", "random_floor", "serving", "step_cost", "sorted_pairs", "router.define" } do
  assert(text:find("function mg." .. name .. "(", 1, true), "mg." .. name .. " is not annotated")
end

-- And every method of a result.
for name in pairs(getmetatable(require("moegauge.result").new {}).__index) do
  local private = name:find "^__" or name == "axes" or name == "made_of" or name == "groups" or name == "default_blocks"
  assert(private or text:find("function Result:" .. name .. "(", 1, true), "Result:" .. name .. " is not annotated")
end

-- And every method of a released model.
for name, method in pairs(getmetatable(require("moegauge").draw { config = { model_type = "mixtral", vocab_size = 8, hidden_size = 8, num_hidden_layers = 1,
  num_attention_heads = 1, intermediate_size = 8, num_local_experts = 2, num_experts_per_tok = 2 } })) do
  local private = type(method) ~= "function" or name == "derived"
  assert(private or text:find("---@field " .. name .. " fun(self: Released", 1, true), "Released:" .. name .. " is not annotated")
end
