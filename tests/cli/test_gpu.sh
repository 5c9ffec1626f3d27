#!/usr/bin/env bash
# GPU backends from the command line: a device that is missing, lost or of another kind is exit code 6 with its reason, and
# an experiment for it stops before its cases. The devices are the executor's, and that of cuda where there is none.
. "$MOEGAUGE_SOURCE/tests/cli/common.sh"
[ -e "$MOEGAUGE_BUILD/tests/executor/gpu_host32.so" ] || { echo "the executor was not built: it needs a C++ compiler"; exit 77; }
export MOEGAUGE_PLUGIN_PATH=$MOEGAUGE_BUILD/tests/executor

for backend in gpu_host32 gpu_host64; do
  says 6 "no executor device can be used here" check backend $backend --set fail=no_device
  says 6 "holds no code for executor on the host" check backend $backend --set fail=no_code
  says 6 "was lost while launching a first kernel" check backend $backend --set fail=lost
  says 6 "device=3 was wanted, but executor sees 1" check backend $backend --set device=3
  says 0 "0 failed" check backend $backend --filter softmax --set reverse=true
  says 0 "number of the device" help backend $backend
done
says 0 '"device": "device=\"executor on the host\" architecture=warp64' check backend gpu_host64 --mode support --json

# Every router chooses on either warp width what it chooses on the reference.
for router in $("$MOEGAUGE" list routers --names); do
  for backend in gpu_host32 gpu_host64; do
    says 0 "backend                passed" check router "$router" --backend $backend --filter backend
  done
done

# An experiment trains on the kernels unchanged.
make_corpus
says 0 "5 cases finished" run "$MOEGAUGE_SOURCE/experiments/quickstart.lua" --set backend=gpu_host32 --set corpus="$work/corpus" --smoke --seeds 1 --out "$work/trained"

for backend in cuda hip; do
  [ -e "$MOEGAUGE_BUILD/lib/moegauge/backends/$backend.so" ] || { echo "$backend was not built"; continue; }
  "$MOEGAUGE" check backend $backend --mode support >/dev/null 2>&1
  [ $? = 6 ] || { echo "$backend has a device here"; continue; }
  says 6 "device can be used here" check backend $backend
  says 6 "device can be used here" run "$MOEGAUGE_SOURCE/experiments/quickstart.lua" --set backend=$backend --out "$work/none"
  [ -e "$work/none" ] && complain "a run without a device left results"
  says 0 "20 cases" run "$MOEGAUGE_SOURCE/experiments/quickstart.lua" --set backend=$backend --dry-run
done
exit $bad
