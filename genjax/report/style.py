"""Hold the page's style sheet and its short script; the page is complete without the script."""

from __future__ import annotations

_LIGHT = """
--paper:#fbfaf6;--panel:#fff;--ink:#1a1b1e;--soft:#44464c;--muted:#73757c;--rule:#d9d6cc;--hair:#e9e6dd;
 --wash:#f3f1ea;
--accent:#a8341f;--c0:#2f67b1;--c1:#c2512f;--c2:#3d8a4e;--c3:#8251a8;--c4:#b07d10;--c5:#1c8c8c;
 --c6:#ad3f70;--c7:#66707c;
color-scheme:light"""
_DARK = """
--paper:#131417;--panel:#1a1c20;--ink:#eceae5;--soft:#c3c2bd;--muted:#94969d;--rule:#3a3d44;
 --hair:#282a30;--wash:#1d1f24;
--accent:#ff9a80;--c0:#7fb0f0;--c1:#f08f6c;--c2:#7cc98b;--c3:#c39ae6;--c4:#e0b54f;--c5:#5cc9c6;
 --c6:#ea85b0;--c7:#a9b3bf;
color-scheme:dark"""

CSS = (
    f":root{{{_LIGHT}}}@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{_DARK}}}}}"
    f":root[data-theme=dark]{{{_DARK}}}"
    + "".join(f".c{n}{{--c:var(--c{n})}}" for n in range(8))
    + """
.real{--c:var(--ink)}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-behavior:smooth}
body{margin:0;background:var(--paper);color:var(--ink);
 font:15px/1.55 ui-sans-serif,system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
  "Liberation Sans",Arial,sans-serif;
 font-variant-numeric:tabular-nums lining-nums}
main,header,footer{max-width:1160px;margin:0 auto;padding:0 28px}
header{padding-top:56px}
h1,h2,.stand,.says,.lead,.caveats{font-family:Charter,"Bitstream Charter","Iowan Old Style","Sitka Text",
 Cambria,Georgia,"Liberation Serif",serif}
h1{font-size:clamp(32px,5vw,52px);line-height:1.06;letter-spacing:-.018em;font-weight:600;
 margin:10px 0 14px;max-width:26ch;text-wrap:balance;overflow-wrap:anywhere}
h2{font-size:27px;line-height:1.15;letter-spacing:-.01em;font-weight:600;margin:0 0 16px}.lead{
 margin-top:-8px}
h3{font-size:14px;font-weight:650;margin:0}
p{margin:0 0 12px}.note{color:var(--muted);font-size:13px;margin:0 0 6px}
.kicker{font-size:12px;letter-spacing:.09em;text-transform:uppercase;color:var(--muted);margin:0}
.stand{font-size:19px;line-height:1.45;color:var(--soft);max-width:700px}
.lead{font-size:17px;line-height:1.5;color:var(--soft);max-width:700px;margin-bottom:20px}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;margin:22px 0 0;padding:10px 0;
 border-top:1px solid var(--rule);border-bottom:1px solid var(--rule);font-size:13px;align-items:baseline}
nav a{color:var(--soft);text-decoration:none}
a{color:var(--accent)}nav a:hover{color:var(--accent)}
button{font:inherit;color:var(--muted);background:none;border:1px solid var(--rule);border-radius:99px;
 padding:1px 12px;cursor:pointer;margin-left:auto}
section{padding:52px 0 0}
img{display:block;background:#101216;border:5px solid #101216;border-radius:3px;max-width:100%;
 height:auto;image-rendering:pixelated}
figure{margin:0}
svg{display:block;width:100%;height:auto;overflow:visible}
i.c,.swatch{display:inline-block;width:9px;height:9px;border-radius:50%;background:var(--c);
 margin-right:8px;flex:none}
.strip{margin:34px 0 0;display:grid;grid-template-columns:minmax(96px,max-content) 1fr max-content;
 gap:9px 20px;align-items:center}
.strip .row{display:contents}
.strip .name{font-weight:600;font-size:15px;line-height:1.2}
.strip .name small{display:block;font-weight:400;color:var(--muted);font-size:12px}
.strip .tiles{display:grid;grid-template-columns:1fr 1fr;gap:0 .45%}
.strip .tiles img{width:100%}
.strip .fact{text-align:right;font-size:15px;line-height:1.2;white-space:nowrap}
.strip .fact small{display:block;color:var(--muted);font-size:12px}
.strip .head{font-size:12px;color:var(--muted)}
.strip .rule{grid-column:1/-1;border-top:1px solid var(--rule);margin:5px 0}
.strip .none,.none{color:var(--muted);font-size:13px;border:1px dashed var(--rule);padding:9px 14px;
 border-radius:4px}
.says{list-style:none;margin:0;padding:0;display:grid;grid-template-columns:1fr 1fr;gap:8px 48px;
 font-size:18px;line-height:1.45}
.says li{break-inside:avoid;padding:0 0 15px}
.says li::before{content:"";display:block;width:26px;border-top:2px solid var(--accent);margin:0 0 9px}
.scroll{overflow-x:auto;margin:0 0 26px}
table{border-collapse:collapse;width:100%;font-size:14px}
caption{text-align:left;color:var(--muted);font-size:13px;padding-bottom:8px}
th,td{text-align:left;vertical-align:top;padding:9px 18px 9px 0;font-weight:400}
tbody tr{border-top:1px solid var(--hair)}
thead th{vertical-align:bottom;font-size:12.5px;line-height:1.25;color:var(--soft);padding-bottom:9px}
thead .group th{font-size:12px;font-weight:650;color:var(--muted);padding:9px 9px 5px 0}
thead .group th>span{display:block;border-bottom:1px solid var(--rule);padding-bottom:5px}
thead small{display:block;color:var(--muted);font-size:11.5px;font-weight:400}
thead .sort{cursor:pointer}thead .sort:hover{color:var(--accent)}
table.scores{table-layout:fixed}table.scores th:first-child{width:150px}table.scores thead tr:last-child{
 border-bottom:1.5px solid var(--ink)}
table.scores tbody th,table.scores thead th:first-child{position:sticky;left:0;background:var(--paper);
 z-index:1;padding-left:10px;overflow-wrap:anywhere}

tbody th{font-weight:600}
tbody th small{display:block;font-weight:400;color:var(--muted);font-size:12px;padding-left:17px}
td .v{font-size:15px;white-space:nowrap}
td .pm{display:block;color:var(--muted);font-size:12px;white-space:nowrap;min-height:1.3em;line-height:1.3}
td .bar{width:80px;height:8px;margin-top:4px}
td.na{color:var(--muted)}td.na small{display:block;font-size:12px;line-height:1.25;max-width:13ch}
td.best .v{font-weight:700;color:var(--c)}td.best .v::after{content:" ◂";font-size:11px;vertical-align:1px}
tr.floor{background:var(--wash)}table.scores tr.floor th{background:var(--wash);font-weight:400;
 font-style:italic}
tr.floor td{color:var(--soft)}
.cards{display:grid;gap:30px 26px;grid-template-columns:repeat(auto-fill,minmax(300px,1fr))}
.card{break-inside:avoid;min-width:0}
.card header{all:unset;display:flex;align-items:baseline;border-top:2px solid var(--c,var(--ink));
 padding:7px 0 8px;gap:8px}
.card header small{color:var(--muted);margin-left:auto;font-size:12px;text-align:right}
.card img{width:100%}
.labels{display:flex;color:var(--muted);font-size:12px;line-height:1;padding-bottom:5px;
 text-align:center}.labels span{flex:1}
.steps{display:flex;gap:10px;margin-top:14px}.steps figure{flex:1;min-width:0}figcaption{
 font-size:11.5px;color:var(--muted);padding-top:4px}
.points{background:var(--panel);border:1px solid var(--hair)}.cloud{stroke:var(--c);stroke-width:.018;
 stroke-linecap:round;opacity:.7}
pre.text{white-space:pre-wrap;max-height:340px;overflow:auto}
.pairs{display:grid;grid-template-columns:repeat(4,1fr);gap:12px 12px}
.pairs figure{display:grid;grid-template-columns:1fr 1fr;gap:0 2px;align-items:start}
.pairs figcaption{grid-column:1/-1}
.beside{display:grid;grid-template-columns:repeat(auto-fill,minmax(130px,1fr));gap:14px 16px}
.beside figure{display:flex;gap:4px;align-items:flex-start}.beside figure>div{flex:1;min-width:0}
.beside small{display:block;color:var(--muted);font-size:11.5px;line-height:1.3;padding-top:3px;
 overflow-wrap:anywhere}
.beside:has(.plain){grid-template-columns:1fr}
.captioned{display:grid;grid-template-columns:repeat(auto-fill,minmax(84px,1fr));gap:14px 10px}
.captioned figcaption{line-height:1.3;overflow-wrap:anywhere}
.pieces{display:grid;gap:12px}
img.plain{background:none;border-color:#fff;border-width:1px;image-rendering:auto}
h4{font-size:12.5px;font-weight:600;margin:0 0 5px;color:var(--soft)}.element+.element{margin-top:16px}
.tick{font-size:11px;fill:var(--muted)}.name{fill:var(--soft);font-size:11.5px}.hair{stroke:var(--hair)}
 .axis{stroke:var(--rule)}
.line{stroke:var(--c);stroke-width:1.7;stroke-linejoin:round}.line.held{stroke-dasharray:1 3;
 stroke-linecap:round}.dot{fill:var(--paper)}
.line.other{--c:var(--muted)}.line.o2{--c:var(--ink)}
.envelope{fill:var(--c);stroke:none;opacity:.17}
.key{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:0 16px;font-size:12.5px;
 color:var(--soft)}
.key i{display:inline-block;width:16px;height:0;border-top:2px solid var(--c);vertical-align:middle;
 margin-right:6px}.key i.held{border-top-style:dotted}
.key b{font-weight:600}
.whisker,.range{stroke:var(--c);stroke-width:2}.range{stroke-width:7;opacity:.3}.spot{fill:var(--c)}
.whisker{opacity:.55}.mark{font-size:12.5px;font-weight:600;fill:var(--c)}
rect.floor{fill:var(--ink);opacity:.13}
dl{display:grid;grid-template-columns:max-content 1fr;gap:5px 22px;margin:0 0 22px;font-size:14px}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere;min-width:0}
code,pre{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"Liberation Mono","DejaVu Sans Mono",
 monospace}
pre{background:var(--wash);padding:14px 18px;border-radius:4px;overflow-x:auto;margin:0 0 14px}
pre.command::before{content:"$ ";color:var(--muted)}
details{border-top:1px solid var(--hair);padding:8px 0}summary{cursor:pointer}summary small{
 color:var(--muted)}details pre{margin-top:10px;max-height:420px}
.kind td{padding:7px 0 7px 12px;text-align:right;vertical-align:baseline}.kind td:nth-child(2){width:45%}
 .kind th{padding-right:0;white-space:nowrap}.kind .bar{width:100%}
.two{display:grid;grid-template-columns:1fr 1fr;gap:0 52px}
.caveats{margin:0;padding-left:20px;max-width:700px;color:var(--soft);font-size:16.5px;line-height:1.5}
 .caveats li{padding-bottom:8px}
.status{display:table;margin:2px 0 0 17px;
  font-size:12px;border:1px solid var(--rule);border-radius:99px;padding:0 9px;color:var(--muted);
 font-weight:400}
footer{padding:44px 28px 60px;color:var(--muted);font-size:12.5px}
[data-focus] [data-entry]{opacity:.28;transition:opacity .12s}[data-focus] [data-entry].on{opacity:1}
@media (max-width:760px){
 main,header,footer{padding-left:18px;padding-right:18px}header{padding-top:30px}section{padding-top:40px}
 .strip{display:block}.strip .row{display:grid;
  grid-template:"name fact" auto "tiles tiles" auto/1fr max-content;gap:5px 10px;margin-bottom:14px}
 .strip .row>.name{grid-area:name}.strip .row>.fact{grid-area:fact}.strip .row>.tiles,.strip .row>.none{
  grid-area:tiles;grid-template-columns:1fr}.strip .row:first-child{display:none}
 .strip .tiles img+img{display:none}.strip .name small{display:inline;margin-left:8px}.strip .fact small{
  display:inline;margin-left:6px}
 .says{grid-template-columns:1fr;font-size:17px}.two{grid-template-columns:1fr}
 table.scores tbody th,table.scores thead th:first-child{white-space:normal;padding-right:8px}
  table.scores th:first-child{width:118px}
 dl{grid-template-columns:1fr;gap:0}dd{padding-bottom:8px}.cards{grid-template-columns:1fr}
}
@media print{
 :root,:root:not([data-theme=light]),:root[data-theme=dark]{"""
    + _LIGHT
    + """;--paper:#fff}
 @page{margin:14mm}body{font-size:10.5pt}button,nav{display:none}section{padding-top:26px}
 .scroll{overflow:visible;margin:0 0 18px}table.scores{font-size:8.5pt;min-width:0!important}
 table.scores th:first-child{width:82px}thead th,thead .group th,thead small,td .pm,td.na small{
  font-size:7.5pt;white-space:normal}th,td{padding-right:8px}td .v{font-size:9pt}td .bar{width:52px}
 *{-webkit-print-color-adjust:exact;print-color-adjust:exact}h2{break-after:avoid}tr,figure{
  break-inside:avoid}
 table.scores tbody th,table.scores thead th:first-child{position:static;padding-left:0}
 .cards{grid-template-columns:repeat(3,1fr);gap:18px}.card.wide{grid-column:auto}
}"""
)

JS = """
(() => {
const root = document.documentElement, button = document.querySelector('#theme');
button.hidden = false;
button.onclick = () => {
  const dark = root.dataset.theme
    ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = dark ? 'light' : 'dark';
};
for (const element of document.querySelectorAll('[data-entry]')) {
  element.onmouseenter = () => {
    root.dataset.focus = '';
    for (const other of document.querySelectorAll('[data-entry]'))
      other.classList.toggle('on', other.dataset.entry === element.dataset.entry);
  };
  element.onmouseleave = () => delete root.dataset.focus;
}
for (const head of document.querySelectorAll('th[data-column]')) {
  head.classList.add('sort');
  head.onclick = () => {
    const body = head.closest('table').tBodies[0],
     up = head.dataset.up = head.dataset.up === '1' ? '0' : '1';
    const value = row => { const v = row.cells[+head.dataset.column].dataset.value;
     return v === undefined ? NaN : +v; };
    const rows = [...body.rows].filter(row => !row.classList.contains('floor'));
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      return isNaN(x) - isNaN(y) || (up === '1' ? x - y : y - x);
    });
    body.append(...rows);
  };
}
})();
"""
