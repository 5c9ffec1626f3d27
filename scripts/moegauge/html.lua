--- One self-contained HTML page: no network, readable without scripts, sortable tables where scripts run, light and dark,
--- and plain on paper.

local html = {}

function html.escape(text) return (tostring(text):gsub("[&<>\"']", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;", ["'"] = "&#39;" })) end

local style <const> = [[
:root{--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--page:#fff;--band:#f6f8fa;--mark:#0a5;color-scheme:light dark}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4ae;--line:#3d444d;--page:#0d1117;--band:#161b22;--mark:#4c9}}
*{box-sizing:border-box}body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;color:var(--ink);background:var(--page);margin:0 auto;max-width:70rem;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}p{margin:.4rem 0}
.soft{color:var(--soft)}.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.9rem;margin:.5rem 0}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);white-space:nowrap;text-align:left}td.n,th.n{text-align:right}
td.w{white-space:normal;min-width:16rem;overflow-wrap:anywhere}
th:first-child,td:first-child{position:sticky;left:0;background:var(--page)}
thead th{border-bottom:2px solid var(--line)}tbody tr:hover,tbody tr:hover td{background:var(--band)}
th.sort{cursor:pointer}th.sort::after{content:" \2195";color:var(--soft)}th[aria-sort=ascending]::after{content:" \2191"}th[aria-sort=descending]::after{content:" \2193"}
figure{margin:.6rem 0 1.2rem}figure svg{max-width:100%;height:auto;background:#fff;border:1px solid var(--line);border-radius:6px}
figcaption{color:var(--soft);font-size:.9rem}details{margin:.5rem 0}summary{cursor:pointer}
pre{background:var(--band);padding:.7rem;overflow-x:auto;font-size:.8rem}
@media print{body{max-width:none;font-size:11px}details>*{display:block}h2{break-after:avoid}figure,tr{break-inside:avoid}th.sort::after{content:""}.wide{overflow:visible}th,td{padding:.2rem .4rem;white-space:normal}td.n{white-space:nowrap}th:first-child,td:first-child{position:static}details::details-content{content-visibility:visible;block-size:auto}}
]]

-- Sorts a table by the column whose head is clicked, or has the focus when Enter or the space bar is pressed: numbers by their
-- data-v attribute, texts as people number them, cells without a number last in either direction.
local script <const> = [[
for(const h of document.querySelectorAll("th")){h.classList.add("sort");h.tabIndex=0;
const sort=()=>{const t=h.closest("table"),b=t.tBodies[0],i=h.cellIndex,d=h.ariaSort==="ascending"?-1:1;
for(const o of t.querySelectorAll("th"))o.ariaSort=o===h?(d>0?"ascending":"descending"):null;
const v=r=>r.cells[i].dataset.v,s=r=>r.cells[i].textContent,n=[...b.rows].some(r=>v(r)!==undefined);
[...b.rows].sort((x,y)=>{const p=v(x),q=v(y);if(!n)return s(x).localeCompare(s(y),undefined,{numeric:true})*d;
return p===undefined||q===undefined?(p===undefined)-(q===undefined):(p-q)*d}).forEach(r=>b.append(r))};
h.addEventListener("click",sort);h.addEventListener("keydown",e=>{if(e.key==="Enter"||e.key===" "){e.preventDefault();sort()}})}
]]

local function class_of(column) return column.right and ' class="n"' or column.wrap and ' class="w"' or "" end

--- @param t moegauge.Table  rows may carry sort keys in `t.sort[row][column]`
function html.table(t)
  local out = { '<div class="wide" tabindex="0" role="region" aria-label="table"><table><thead><tr>' }
  for _, column in ipairs(t.columns) do
    out[#out + 1] = ("<th%s>%s</th>"):format(class_of(column), html.escape(column.title))
  end
  out[#out + 1] = "</tr></thead><tbody>\n"
  for r, row in ipairs(t.rows) do
    out[#out + 1] = "<tr>"
    for c, column in ipairs(t.columns) do
      local key = t.sort and t.sort[r] and t.sort[r][c]
      out[#out + 1] = ("<td%s%s>%s</td>"):format(class_of(column),
        type(key) == "number" and key == key and (' data-v="%.9g"'):format(key) or "", html.escape(row[c] or ""))
    end
    out[#out + 1] = "</tr>\n"
  end
  out[#out + 1] = "</tbody></table></div>\n"
  if t.note then out[#out + 1] = '<p class="soft">' .. html.escape(t.note) .. "</p>\n" end
  return table.concat(out)
end

--- An SVG as gnuplot prints it, made fit to stand inside a page: without its XML header, with ids of its own.
--- @param svg string
--- @param key string  unique within the page
function html.inline_svg(svg, key)
  svg = svg:gsub("^.-(<svg)", "%1", 1)
  svg = svg:gsub("id=(['\"])([^'\"]+)%1", function(quote, id) return "id=" .. quote .. key .. "-" .. id .. quote end)
  svg = svg:gsub("url%(#([^)]+)%)", "url(#" .. key .. "-%1)")
  return (svg:gsub("(xlink:href=['\"])#", "%1#" .. key .. "-"):gsub("(%shref=['\"])#", "%1#" .. key .. "-"))
end

function html.figure(svg, caption, key)
  return ('<figure role="img" aria-label="%s">%s<figcaption>%s</figcaption></figure>\n'):format(
    html.escape(caption), html.inline_svg(svg, key), html.escape(caption))
end

--- @param page { title: string, lead: string, body: string, data: string }  data: JSON text kept inside the page
function html.page(page)
  return table.concat {
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">\n<title>',
    html.escape(page.title), "</title>\n<style>", style, "</style></head><body>\n<h1>", html.escape(page.title), "</h1>\n",
    page.lead, page.body,
    '<script type="application/json" id="results">', (page.data:gsub("<", "\\u003c")), "</script>\n<script>", script, "</script>\n</body></html>\n",
  }
end

return html
