# What gpu.sh makes of its programs' answers, and its table. Used as: jq -L scripts 'include "gpu"; NAME(...)'.

# ---- summaries: {ok, ..., seconds}, or {not_measured: reason} ----------------------------------------------------------

# Of `check backend --json`; null when it printed nothing.
def conformance($log; $seconds):
  if . == null then {ok: false, reason: $log, seconds: $seconds}
  else .rows | {
    ok: all(.verdict != "failed"),
    passed: map(select(.verdict == "passed")) | length,
    unsupported: map(select(.verdict == "unsupported")) | length,
    failed: map(select(.verdict == "failed")) | length,
    failures: map(select(.verdict == "failed") | {name, detail}),
    worst: (map(.worst // 0) | max),
    seconds: $seconds
  } end;

# Of a list of `check router --json`; `asked` are the names of all routers.
def routers($asked; $seconds):
  map(.rows[]) as $rows
  | ($asked - ($rows | map(.router)) | map({router: ., check: "all", detail: "did not run"})) as $silent
  | ($silent + ($rows | map(select(.verdict == "failed") | {router, check, detail}))) as $failures
  | {
    ok: ($failures == []),
    routers: ($rows | map(.router) | unique | length),
    checks: ($rows | map(select(.verdict == "passed")) | length),
    failures: $failures,
    seconds: $seconds
  };

def mean: if . == [] then null else add / length end;

# The seeds of one kind of products, as one row.
def agreement_row: {
    products: .[0].products,
    seeds: length,
    loss: map(.loss) | mean,
    cpu_loss: map(.cpu_loss) | mean,
    largest_loss_gap: map(.loss_gap) | max,
    tolerance: .[0] | (if .loss_gap_of_tolerance > 0 then .loss_gap / .loss_gap_of_tolerance else null end),
    within: all(.loss_gap_of_tolerance <= 1),
    flip_rate: map(.flip_rate) | mean,
    tokens_per_second: map(.tokens_per_second // empty) | mean
  };

# Of `report --format json` on device_agreement.lua; null when there is none.
def agreement($judged; $seconds):
  (.cases // []) as $cases
  | ($cases | map(select(.status == "ok") | {products: .params.products} + .result.metrics) | group_by(.products) | map(agreement_row)) as $rows
  | ($cases | map(select(.status != "ok") | {case: ."label", reason})) as $failures
  | {
    ok: ($rows != [] and $failures == [] and (($judged | not) or all($rows[]; .within))),
    judged: $judged,
    cases: ($cases | length),
    failures: $failures,
    rows: $rows,
    seconds: $seconds
  };

# Of `model bench --json`; null when it printed nothing.
def decoding_row($graphs; $log):
  {graphs: $graphs} + if . == null then {failed: $log}
    else .speed.decode | {tokens, depth, tokens_per_second, lowest, highest} end;

# Of one tool of the sanitizer, from its exit code and the last line of its summary.
def sanitizer_tool($tool; $code; $summary; $seconds): {
    tool: $tool,
    ok: ($code == 0),
    summary: (if $code == 124 then "not finished within two hours" elif $summary == "" then "ended with exit code \($code)" else $summary end),
    seconds: $seconds
  };

def benchmark_row:
  {name: (.name | sub("/iterations:.*"; ""))}
  + if .error_occurred then {failed: .error_message}
    else {median_ms, limit_ms, of_limit, rate: (."FLOP/s" // ."B/s"), unit: (if has("FLOP/s") then "FLOP/s" else "B/s" end)} end;

# Of Google Benchmark's JSON; null when it printed nothing.
def benchmarks($scale; $log):
  (if . == null then [{name: "limit/", failed: $log}] else .benchmarks | map(benchmark_row) end) as $rows
  | {ok: ($rows != [] and all($rows[]; .failed == null)), scale: $scale, rows: $rows};

def lacked_memory: any(.rows[]; (.failed // "") | test("memory"));

# ---- the table ---------------------------------------------------------------------------------------------------------

def verdict: if .ok then "passed" else "**failed**" end;
def digits($n): if . == null then "not measured" else . * pow(10; $n) | round / pow(10; $n) | tostring end;
def percent($n): if . == null then "not measured" else "\(100 * . | digits($n)) %" end;
def rate:
  if . >= 1e12 then "\(. / 1e12 | digits(1)) T"
  elif . >= 1e9 then "\(. / 1e9 | digits(1)) G"
  else "\(. / 1e6 | digits(1)) M" end;
def row: "| " + (map(tostring) | join(" | ")) + " |";
def head: row, (map("---") | row);
def line: gsub("\n+"; " ") | rtrimstr(" ");

def conformance_detail:
  if .reason then .reason | line
  else "\(.passed) passed, \(.unsupported) unsupported, \(.failed) failed; the largest error is \(.worst | digits(3)) of what is allowed" end;

def check_table:
  (["check", "result", "detail", "s"] | head),
  (.conformance | ["every primitive beside the reference", verdict, conformance_detail, .seconds] | row),
  (.routers | ["every check of \(.routers) routers", verdict, "\(.checks) passed, \(.failures | length) failed", .seconds] | row),
  (.agreement | ["a training on `cpu` and on the device", verdict,
     "\(.cases) cases, \(.failures | length) without a result" + (if .judged then "" else "; the gap is not judged" end), .seconds] | row),
  (.sanitizer | if .not_measured then ["compute-sanitizer", "not measured", .not_measured, ""] | row
                else .tools[] | [.tool, verdict, .summary, .seconds] | row end);

def agreement_table:
  (["products", "seeds", "loss on the device", "on `cpu`", "largest gap", "tolerance", "flips", "tokens/s"] | head),
  (.agreement.rows[] | [.products, .seeds, (.loss | digits(4)), (.cpu_loss | digits(4)), (.largest_loss_gap | digits(6)),
     (.tolerance | digits(4)), (.flip_rate | percent(3)), (.tokens_per_second | digits(0))] | row);

def decoding_table:
  (["graphs", "tokens", "tokens/s", "slowest round", "fastest round"] | head),
  (.decoding.rows[] | if .failed then [.graphs, "not measured: \(.failed | line)", "", "", ""] | row
    else [.graphs, "\(.tokens) after \(.depth)", (.tokens_per_second | digits(0)), (.lowest | digits(0)), (.highest | digits(0))] | row end);

def benchmark_table:
  (["benchmark", "median ms", "rate", "limit ms", "of the limit"] | head),
  (.benchmarks.rows[] | if .failed then [.name, "not measured: \(.failed | line)", "", "", ""] | row
    else [.name, (.median_ms | digits(3)), (.rate | rate) + .unit, (.limit_ms | digits(3)), (.of_limit | percent(1))] | row end);

def failures:
  (.conformance.failures // [] | .[:20][] | "- failed: \(.name): \(.detail)"),
  (.routers.failures[] | "- failed: router \(.router): \(.check): \(.detail)"),
  (.agreement.failures[] | "- no result: \(.case): \(.reason)");

def command:
  "scripts/gpu.sh --backend \(.backend)" + (if .rehearsal then " --quick" else "" end)
  + (.benchmarks.scale // 1 | if . > 1 then " --scale \(.)" else "" end);

def provenance:
  "- command: `\(command)`",
  "- device: \(.device)",
  "- toolkit: \(.toolkit)",
  "- host: \(.build.processor.model), \(.build.processor.usable) processors, \(.build.system)",
  "- moegauge: \(.build.commit // "unknown commit")\(if .build.dirty then " with changes" else "" end), \(.build.compiler)",
  "- time: \(.time), \(.seconds) s in all";

# Of gpu.json: the lines of gpu.md.
def markdown:
  "# The backend \(.backend) on a device\n",
  (if .rehearsal then "A rehearsal: one family of primitives, one router, a training of two steps.\n" else empty end),
  check_table,
  "\n## The same training on the host and on the device\n",
  "The largest gap between the losses is held to the tolerance. Flips are tokens of a layer whose experts differ for the same weights; they are not judged (`experiments/device_agreement.lua` says why).\n",
  agreement_table,
  "\n## Decoding, each token's launches one by one or as one graph\n",
  "The small model of that training, one sequence: its time is launches. Medians of rounds.\n",
  decoding_table,
  "\n## Beside the device's own limits\n",
  (if .benchmarks.not_measured then "Not measured: \(.benchmarks.not_measured)" else
    "Shapes divided by \(.benchmarks.scale); work and limits stand in `tests/bench/README.md`. Medians of rounds by turns, by the device's events.\n",
    benchmark_table end),
  "",
  ([failures] | if . == [] then empty else .[], "" end),
  provenance;
