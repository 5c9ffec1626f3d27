--- Holds a file of configurations with known numbers against what is counted here: a table of differences, and by which
--- convention each published figure is reproduced.
---
--- The file is { models = { { name =, config =, expected =, checkpoint_parameters =, checkpoint_leaves_out = {parts},
--- published = { total =, active = } }, ... } }; tests/golden/models.json is one.

local core = require "moegauge.core"
local inspect = require "moegauge.inspect"
local sorted = require "moegauge.sorted"

local counts = {}

local figures <const> = { "total", "active", "active_without_input_embedding", "active_without_embedding_and_head" }
local units <const> = { K = 1e3, M = 1e6, B = 1e9, T = 1e12 }

-- Every number that the file expects and that was counted otherwise.
local function differences(result, expected)
  local rows = {}
  local function compare(what, counted, wanted)
    if counted ~= wanted then rows[#rows + 1] = { what = what, counted = counted, expected = wanted } end
  end
  for _, name in ipairs(figures) do compare(name, result[name], expected[name]) end
  compare("kv_cache_bytes_per_token", result.kv_cache_bytes_per_token, expected.kv_cache_bytes_per_token)
  compare("flops_by_parameters", result.flops_per_token.by_parameters, expected.flops_by_parameters)
  for _, part in ipairs(sorted.keys(expected.breakdown)) do compare(part, result.breakdown[part], expected.breakdown[part]) end
  return rows
end

local function checkpoint_of(result, model)
  local parameters = result.checkpoint.parameters
  for _, part in ipairs(model.checkpoint_leaves_out or {}) do parameters = parameters - result.breakdown[part] end
  return parameters
end

-- ---- published figures -------------------------------------------------------------------------------------------

-- Ways to count, from the plainest on.
local function totals(r)
  local ends = r.breakdown.embedding + r.breakdown.head
  local modules = r.breakdown.multi_token_prediction
  return {
    { "total", r.total }, { "total without embedding", r.total - r.breakdown.embedding }, { "total without embedding and head", r.total - ends },
    { "total with prediction modules", r.total + modules }, { "total without embedding and head, with prediction modules", r.total - ends + modules },
    { "checkpoint", r.checkpoint.parameters },
  }
end

local function actives(r)
  local ways = { { "active", r.active }, { "active without input embedding", r.active_without_input_embedding },
    { "active without embedding and head", r.active_without_embedding_and_head } }
  if r.active_on_average then
    ways[4] = { "active on average", r.active_on_average }
    ways[5] = { "active on average without input embedding", r.active_on_average - (r.active - r.active_without_input_embedding) }
  end
  return ways
end

-- "46.7B" -> 46.7, 1 decimal, 1e9.
local function parse(figure)
  local number, unit = figure:match "^(%d+%.?%d*)([KMBT])$"
  if not number then return nil end
  local decimals = #(number:match "%.(%d+)" or "")
  return tonumber(number), decimals, units[unit]
end

--- How a figure comes about: "total, rounded", or "none; the nearest is total = 107.77B".
function counts.explain(figure, ways)
  local number, decimals, unit = parse(figure)
  if not number then return "cannot be read as a number" end
  local shift = 10 ^ decimals
  local nearest
  for _, way in ipairs(ways) do
    local scaled = way[2] / unit * shift
    local wanted = number * shift
    if math.floor(scaled + 0.5) == math.floor(wanted + 0.5) then return way[1] .. ", rounded" end
    if math.floor(scaled) == math.floor(wanted + 0.5) then return way[1] .. ", truncated" end
    if not nearest or math.abs(scaled - wanted) < math.abs(nearest[2] / unit * shift - wanted) then nearest = way end
  end
  local letter = figure:sub(-1)
  return ("no convention; the nearest is %s = %.2f%s"):format(nearest[1], nearest[2] / unit, letter)
end

-- ---- rows --------------------------------------------------------------------------------------------------------

local function row_of(file, model, context)
  local source = { file = ("%s: %s"):format(file, model.name), config = model.config, names = sorted.keys(model.config) }
  local result = inspect.of(source, context)
  local row = { name = model.name, family = result.family, runs = result.runs, total = result.total, active = result.active,
    differences = core.list(differences(result, model.expected)), published = {} }
  if model.checkpoint_parameters then
    row.checkpoint = { counted = checkpoint_of(result, model), published = model.checkpoint_parameters }
    row.checkpoint.difference = row.checkpoint.counted - row.checkpoint.published
    row.checkpoint.beside = result.checkpoint.beside
    row.checkpoint.left_out = model.checkpoint_leaves_out
  end
  local published = model.published or {}
  if published.total then row.published.total = { figure = published.total, by = counts.explain(published.total, totals(result)) } end
  if published.active then row.published.active = { figure = published.active, by = counts.explain(published.active, actives(result)) } end
  return row
end

local function check(file, models)
  if type(models) ~= "table" or #models == 0 then core.fail_plain("file", ("%s: key 'models': must be a list of models"):format(file)) end
  for i, model in ipairs(models) do
    if type(model) ~= "table" or type(model.name) ~= "string" or type(model.config) ~= "table" or type(model.expected) ~= "table"
      or type(model.expected.breakdown) ~= "table" then
      core.fail_plain("file", ("%s: key 'models[%d]': must have a name, a config and expected numbers with a breakdown"):format(file, i))
    end
  end
end

--- The rows of a file of models.
function counts.rows(path)
  local read = core.read_config(path)
  check(read.file, read.config.models)
  local rows = {}
  for i, model in ipairs(read.config.models) do rows[i] = row_of(read.file, model, 4096) end
  return rows
end

-- ---- as Markdown -------------------------------------------------------------------------------------------------

local function beside_text(checkpoint)
  local parts = {}
  for _, one in ipairs(checkpoint.beside) do parts[#parts + 1] = ("%s %s"):format(one.what, inspect.grouped(one.parameters)) end
  for _, part in ipairs(checkpoint.left_out or {}) do parts[#parts + 1] = ("%s left out by the page"):format(part) end
  return table.concat(parts, "; ")
end

local function figure_text(published)
  if not published then return "", "" end
  return published.figure, published.by
end

local function counts_table(rows)
  local lines = { "| model | family | total | active | numbers that differ | counted in the checkpoint | published | difference | beside the model |",
    "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |" }
  for _, row in ipairs(rows) do
    local c = row.checkpoint
    lines[#lines + 1] = ("| %s | %s | %s | %s | %d | %s | %s | %s | %s |"):format(row.name, row.family, inspect.grouped(row.total), inspect.grouped(row.active),
      #row.differences, c and inspect.grouped(c.counted) or "", c and inspect.grouped(c.published) or "", c and ("%d"):format(c.difference) or "", c and beside_text(c) or "")
  end
  return table.concat(lines, "\n")
end

local function published_table(rows)
  local lines = { "| model | total as published | reproduced by | active as published | reproduced by |", "| --- | --- | --- | --- | --- |" }
  for _, row in ipairs(rows) do
    local total, total_by = figure_text(row.published.total)
    local active, active_by = figure_text(row.published.active)
    if total ~= "" or active ~= "" then
      lines[#lines + 1] = ("| %s | %s | %s | %s | %s |"):format(row.name, total, total_by, active, active_by)
    end
  end
  return table.concat(lines, "\n")
end

local function differing(rows)
  local different, checkpoints = 0, 0
  for _, row in ipairs(rows) do
    local c = row.checkpoint
    different = different + #row.differences + ((c and c.difference ~= 0) and 1 or 0)
    checkpoints = checkpoints + (c and 1 or 0)
  end
  return different, checkpoints
end

--- The page, and how many numbers differ.
function counts.markdown(rows, file)
  local different, checkpoints = differing(rows)
  return table.concat({
    "# Parameters of released models, counted from their configurations",
    ("%d models, %d of them with the exact number that is in the released files; %d numbers differ. Made by `moegauge model counts %s`.")
      :format(#rows, checkpoints, different, file),
    "Compared for each model: total and the three conventions of active parameters, every part, the key-value cache, and FLOPs by parameters. Total and active are the model's own; the files may hold more beside it.",
    counts_table(rows),
    "## Published figures",
    "Makers round or truncate, and count the active part in several ways. The first convention that gives the published figure is named, or the nearest where none does.",
    published_table(rows),
  }, "\n\n") .. "\n", different
end

--- For `moegauge model counts`.
function counts.command(path)
  local rows = counts.rows(path)
  local text, different = counts.markdown(rows, path)
  return { result = { models = rows, different = different }, text = text, different = different }
end

return counts
