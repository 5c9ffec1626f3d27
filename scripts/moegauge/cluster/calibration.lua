--- Calibrated costs by name: what was fitted to measurements (fitted_*.lua, written by `moegauge cluster fit`), and what
--- is known only as published efficiencies, which have no residuals and no range.

local calibration = {}

--- Of Hopper. Peaks: 3350 GB/s, 989e12 bf16 FLOPs a second.
local published <const> = {
  -- FlashMLA's README of 2025-02 (github.com/deepseek-ai/FlashMLA, MIT): up to 3000 GB/s and 580e12 on H800.
  attention_decode = { coefficients = { constant_s = 0, memory = 3350 / 3000, compute = 989 / 580 } },
  -- FlashAttention-3 on H100, heads of 128, 4096 tokens: 590e12 (pytorch/benchmark, pull request 2391).
  attention_prefill = { coefficients = { constant_s = 0, memory = 1 / 0.8, compute = 989 / 590 } },
  -- Its backward pass reaches about 500e12 at that length (arXiv 2407.08608, figure 6; recalled, not checked).
  attention_backward = { coefficients = { constant_s = 0, memory = 1 / 0.8, compute = 989 / 500 } },
  -- aiconfigurator: 80 % of the memory's bandwidth, and 3 us for each kernel.
  memory = { coefficients = { constant_s = 3e-6, memory = 1 / 0.8 } },
}

local function merged(fitted, more)
  local forms = {}
  for name, form in pairs(fitted.forms) do forms[name] = form end
  for name, form in pairs(more) do forms[name] = form end
  return { forms = forms, collectives = fitted.collectives }
end

--- @type table<string, fun(): table>
calibration.known = {
  hopper = function() return merged(require "moegauge.cluster.fitted_h100", published) end,
}

return calibration
