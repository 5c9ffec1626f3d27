#!/usr/bin/env bash
# Fails when a file that parses untrusted checkpoints adds or multiplies with a bare + or *: numbers from a file go
# through mg__add, mg__multiply and mg__align_up, and offsets into text are written &text[at]. clang-format puts spaces
# around binary operators alone, so a star of a pointer is not meant. Counters may use ++ and --.
set -u
source_dir=${1:?usage: checked_arithmetic.sh SOURCE_DIR}
cd "$source_dir/core/model/checkpoint" || exit 1
parsers=(safetensors.c shards.c gguf.c gguf_values.c gguf_split.c)
bad=0
for file in "${parsers[@]}"; do
  [ -f "$file" ] || { echo "$file: is gone; name its successor in $0"; bad=1; continue; }
  # Comments and texts are blanked, lines kept.
  found=$(sed -E 's/"([^"\\]|\\.)*"/""/g; s://.*$::' "$file" |
    awk '{ line = $0; out = ""
           while (line != "") {
             if (inside) { at = index(line, "*/"); if (!at) { line = ""; break } line = substr(line, at + 2); inside = 0 }
             at = index(line, "/*")
             if (!at) { out = out line; break }
             out = out substr(line, 1, at - 1); line = substr(line, at + 2); inside = 1
           }
           print out }' |
    grep -nE ' ([+*]|[+*]=|<<=) |[+*]$')
  [ -z "$found" ] && continue
  while IFS= read -r line; do echo "core/model/checkpoint/$file:$line"; done <<<"$found"
  bad=1
done
[ $bad = 0 ] && echo "checked_arithmetic: ${#parsers[@]} parsers add and multiply through checked.h"
exit $bad
