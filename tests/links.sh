#!/usr/bin/env bash
# Fails when a page links to what is not there, names a path of the tree that is not there, or when a page or picture of
# results/reference cannot be reached from its index.
set -u
source_dir=${1:?usage: links.sh SOURCE_DIR}
cd "$source_dir" || exit 1
bad=0
complain() { echo "$1"; bad=1; }

# "PAGE TARGET" for each link [..](TARGET) and <img src="TARGET">, and "PAGE /PATH" for each path of the tree in backticks.
# Blocks of code are skipped; what has a placeholder, a pattern or an address is no path.
references() {
  find . -name '*.md' -not -path './build/*' -not -path './results/[!r]*' -print0 | sort -z | xargs -0 awk '
    FNR == 1 { inside = 0 }
    /^[ \t]*```/ { inside = !inside; next }
    inside { next }
    { rest = $0
      while (match(rest, /\]\([^) ]+\)/)) {
        print FILENAME, substr(rest, RSTART + 2, RLENGTH - 3)
        rest = substr(rest, RSTART + RLENGTH)
      }
      rest = $0
      while (match(rest, /`[^`]+`/)) {
        word = substr(rest, RSTART + 1, RLENGTH - 2)
        rest = substr(rest, RSTART + RLENGTH)
        if (word ~ /^(core|routers|backends|scripts|experiments|results\/reference|tests)\/[A-Za-z0-9_.\/-]*$/ && word !~ /(^|[\/_.])[A-Z][A-Z]+([\/_.]|$)/)
          print FILENAME, "/" word
      } }'
}

while read -r page target; do
  case $target in
    http://* | https://* | mailto:* | '#'*) continue ;;
    /*) [ -e ".$target" ] || complain "$page: names ${target#/}, which is not there" ;;
    *) [ -e "$(dirname "$page")/${target%%#*}" ] || complain "$page: links to $target, which is not there" ;;
  esac
done < <(references)

# Reached from the index: pages by links from page to page, pictures from any page reached.
declare -A links reached
while read -r page target; do
  links[$page]+=" $(dirname "$page")/${target%%#*}"
done < <(references | grep -E '^\./results/reference/[^ ]* [^/]' | grep -vE ' (https?|mailto):')
queue=(./results/reference/README.md)
while [ ${#queue[@]} -gt 0 ]; do
  page=${queue[0]} queue=("${queue[@]:1}")
  [ -n "${reached[$page]:-}" ] && continue
  reached[$page]=1
  for target in ${links[$page]:-}; do queue+=("$target"); done
done
while read -r file; do
  [ -n "${reached[$file]:-}" ] || complain "$file: cannot be reached from results/reference/README.md"
done < <(find ./results/reference -type f | sort)

[ $bad = 0 ] && echo "links: every link and path leads somewhere, every reference result is listed"
exit $bad
