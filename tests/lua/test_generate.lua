-- model:generate on the small golden models: text and ids, pieces as they come, ends, and the message of every wrong option.
local core = require "moegauge.core"
local mg = require "moegauge"

local here = debug.traceback():match("(%S*)/tests/lua/test_generate%.lua")
local model <const> = mg.load(here .. "/tests/golden/models/mixtral", { precision = "f32" })

-- The likeliest tokens are the same from a text and from its ids, and pieces add up to the text.
local told, pieces = {}, {}
local made <const> = model:generate { prompt = "The owl", tokens = 12, each = function(id, piece)
  told[#told + 1] = id
  pieces[#pieces + 1] = piece
end }
assert(#made.ids == 12 and made.prompt_tokens == 7 and not made.ended)
assert(table.concat(told, " ") == table.concat(made.ids, " ") and table.concat(pieces) == made.text)
local same <const> = model:generate { prompt = { 51, 71, 68, 94, 78, 86, 75 }, tokens = 12 }
assert(same.text == made.text and table.concat(same.ids, " ") == table.concat(made.ids, " "))
-- It goes on as the whole would: the first half as part of the prompt.
local ids <const> = { 51, 71, 68, 94, 78, 86, 75, table.unpack(made.ids, 1, 6) }
assert(table.concat(model:generate { prompt = ids, tokens = 6 }.ids, " ") == table.concat(made.ids, " ", 7))

-- Draws depend on the seed alone; one candidate leaves nothing to draw.
local function drawn(options)
  local t = { prompt = "The owl", tokens = 12, temperature = 1.5 }
  for key, value in pairs(options) do t[key] = value end
  return table.concat(model:generate(t).ids, " ")
end
assert(drawn { seed = 3 } == drawn { seed = 3 } and drawn { seed = 3 } ~= drawn { seed = 4 })
assert(drawn { top_k = 1 } == table.concat(made.ids, " ") and drawn { top_p = 1e-6 } == drawn { top_k = 1 })

-- A token that ends a text, as the configuration names it: an id or a list of them.
local third <const> = made.ids[3]
local first = 1
while made.ids[first] ~= third do first = first + 1 end
for _, ends in ipairs { third, { 94, third } } do
  model.config.eos_token_id = ends
  local ended <const> = model:generate { prompt = "The owl", tokens = 12 }
  assert(ended.ended and #ended.ids <= first and ended.ids[#ended.ids] == (ended.ids[#ended.ids] == 94 and 94 or third))
end
model.config.eos_token_id = nil

-- A swapped router goes on from the same weights.
assert(#model:with_router { options = { k = 4 } }:generate { prompt = "The owl", tokens = 3 }.ids == 3)

-- Errors of the callback come out, and wrong options are refused by name.
local function refused(pattern, options, status)
  local fine <const>, err = pcall(model.generate, model, options)
  local text <const> = tostring(err)
  assert(not fine and text:find(pattern), text)
  if status then assert(core.error_of(err) == status, text) end
end
refused("told too much", { prompt = "The owl", each = function() error "told too much" end })
refused("'prompt' must be a text or a list of ids", {})
refused("'tokens' must be a whole number from 1 up", { prompt = "a", tokens = 0 })
refused("'temperature' must be a number from 0 to", { prompt = "a", temperature = -1 })
refused("'top_p' must be a number from", { prompt = "a", top_p = 0 })
refused("'top_k' must be a whole number from 0 up", { prompt = "a", top_k = 1.5 })
refused("the prompt has no token", { prompt = "" })
refused("'each' must be a function", { prompt = "a", each = 1 })
refused("did you mean 'top_k'", { prompt = "a", topk = 1 })
refused("input 0 is token", { prompt = { 100000 } })
local translator <const> = mg.load(here .. "/tests/golden/models/switch_transformers", { precision = "f32" })
assert(not pcall(translator.generate, translator, { prompt = "a" }))
