--- How fast a model reads and writes, summed up over rounds and held against what the machine can do.

local statistics = require "moegauge.statistics"

local speed = {}

local function rates(rounds, tokens, key)
  local values = {}
  for i, round in ipairs(rounds) do values[i] = tokens * 1e9 / round[key] end
  return { tokens = tokens, tokens_per_second = statistics.median(values), lowest = math.min(table.unpack(values)), highest = math.max(table.unpack(values)) }
end

--- @param rounds table[]  what the core measured in each
--- @param asked { prompt: integer, generate: integer, depth: integer, decode_bytes: number }
function speed.summary(rounds, asked)
  local result, first = { rounds = #rounds }, rounds[1]
  if asked.prompt > 0 then
    result.prefill = rates(rounds, asked.prompt, "prefill_ns")
    result.prefill.flops_per_token = first.prefill_flops / asked.prompt
  end
  if asked.generate > 0 then
    result.decode = rates(rounds, asked.generate, "decode_ns")
    result.decode.depth = asked.depth
    result.decode.flops_per_token = first.decode_flops / asked.generate
    result.decode.bytes_per_token = asked.decode_bytes
  end
  return result
end

-- The fastest instructions that may compute in a precision; products of bf16 run in f32 where there are none of their own.
local function arithmetic_peak(peaks, precision)
  if precision ~= "bf16" then return peaks.f32_flops end
  return peaks.amx_flops > 0 and peaks.amx_flops or math.max(peaks.bf16_flops, peaks.f32_flops)
end

--- Adds the shares of the machine's arithmetic peak (prefill) and of its memory bandwidth (decode).
function speed.compare(result)
  local prefill, decode = result.speed.prefill, result.speed.decode
  if prefill then
    prefill.of_peak = prefill.flops_per_token * prefill.tokens_per_second / arithmetic_peak(result.peaks, result.precision)
  end
  if decode then decode.of_bandwidth = decode.bytes_per_token * decode.tokens_per_second / result.peaks.read_bytes end
  return result
end

local function line(name, what, rate, share)
  return ("  %-9s%-32s%9.1f tokens/s (%.1f to %.1f)   %s"):format(name, what, rate.tokens_per_second, rate.lowest, rate.highest, share)
end

--- The table that `moegauge model bench` prints, of a result that was compared.
function speed.text(path, result)
  local prefill, decode = result.speed.prefill, result.speed.decode
  local lines = { ("%s: %s in %s on %s"):format(path, result.family, result.precision, result.backend) }
  if prefill then
    lines[#lines + 1] = line("prefill", ("%d tokens"):format(prefill.tokens), prefill,
      ("%.0f %% of %.0f GFLOP/s"):format(100 * prefill.of_peak, arithmetic_peak(result.peaks, result.precision) * 1e-9))
  end
  if decode then
    lines[#lines + 1] = line("decode", ("%d tokens after %d"):format(decode.tokens, decode.depth), decode,
      ("%.0f %% of %.1f GB/s for %.0f MB a token"):format(100 * decode.of_bandwidth, result.peaks.read_bytes * 1e-9, decode.bytes_per_token * 1e-6))
  end
  lines[#lines + 1] = ("medians of %d rounds, in brackets the slowest and the fastest; peaks measured in this process"):format(result.speed.rounds)
  return table.concat(lines, "\n") .. "\n"
end

return speed
