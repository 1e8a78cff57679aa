//! How the page looks: light or dark as its reader's system is, on paper too.

pub(super) const CSS: &str = r"
:root{color-scheme:light dark;--bg:#fff;--panel:#f5f6f8;--text:#1b1f24;--soft:#545d68;--line:#d5d9df;
--good:#116329;--good-bg:#e3f6e8;--bad:#a40e26;--bad-bg:#fdeaec;--rate:#5b86b8;--wait:#7a4fb5;--worst:#b58ad9;
--harm:#f3c9cd;--heal:#fdf1d4;--mark:#8a5a00;--strike:#1b1f24}
@media (prefers-color-scheme:dark){:root{--bg:#14171b;--panel:#1d2227;--text:#e6e9ed;--soft:#a4adb8;--line:#39414a;
--good:#6ed08a;--good-bg:#12301c;--bad:#ff9aa2;--bad-bg:#3d151b;--rate:#5f8fc6;--wait:#c3a1f0;--worst:#8463ad;
--harm:#55252c;--heal:#3a3118;--mark:#f0c36a;--strike:#fff}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}
main,footer{max-width:62rem;margin:0 auto;padding:1.5rem 1.25rem}
footer{color:var(--soft);font-size:.875rem;border-top:1px solid var(--line)}
h1{font-size:1.9rem;line-height:1.2;margin:.2rem 0 1rem;text-wrap:balance}
h2{font-size:1.2rem;margin:0 0 .6rem}
h3{font-size:1rem;margin:1rem 0 .3rem}
p{margin:0 0 .6rem}
section{margin:2.2rem 0}
.kicker{color:var(--soft);margin:0}
.verdict{display:flex;gap:.9rem;align-items:flex-start;padding:.9rem 1.1rem;border-radius:.5rem;border-left:.4rem solid}
.verdict p{margin:0;font-size:1.1rem}
.verdict .mark{font-size:1.5rem;line-height:1.1;font-weight:700}
.pass{background:var(--good-bg);border-color:var(--good)}
.pass .mark,.pass strong{color:var(--good)}
.fail{background:var(--bad-bg);border-color:var(--bad)}
.fail .mark,.fail strong{color:var(--bad)}
.unshown{background:var(--heal);border-color:var(--mark)}
.unshown .mark,.unshown strong{color:var(--mark)}
.caution{display:flex;gap:.9rem;align-items:flex-start;padding:.8rem 1.1rem;margin:.7rem 0 0;border-radius:.5rem;
border-left:.4rem solid var(--mark);background:var(--heal)}
.caution p{margin:0}
.caution .mark{font-size:1.3rem;line-height:1.2;font-weight:700;color:var(--mark);min-width:1.1rem;text-align:center}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:1.2rem 2.5rem}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1.4rem 0 0}
.figures>div{background:var(--panel);border-radius:.5rem;padding:.75rem .9rem;display:grid;grid-template-rows:auto 1fr}
@supports (grid-template-rows:subgrid){.figures>div{grid-row:span 2;grid-template-rows:subgrid;row-gap:0}}
.figures dt{color:var(--soft);font-size:.875rem}
.figures dd{margin:0;font-size:1.2rem;font-weight:650;font-variant-numeric:tabular-nums;line-height:1.3}
.figures small{display:block;font-size:.8125rem;font-weight:400;color:var(--soft)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
th,td{text-align:left;padding:.35rem .75rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}
thead th{color:var(--soft);font-size:.875rem}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
td.n,th.n{padding-right:1.25rem}
code{font:.9em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.conditions td{overflow-wrap:anywhere}
.conditions small{display:block;color:var(--soft);font-size:.875rem;overflow-wrap:anywhere}
.sign{white-space:nowrap;font-weight:600}
.good .sign{color:var(--good)}
.bad .sign{color:var(--bad)}
.open td{color:var(--soft)}
.bad td{background:var(--bad-bg)}
.steps{list-style:none;padding:0}
.steps li{margin:0 0 .8rem}
pre{margin:.25rem 0 0;padding:.5rem .75rem;background:var(--panel);border-radius:.375rem;white-space:pre-wrap}
.two ul:not(.steps){padding-left:1.2rem;margin:0}
.two ul:not(.steps) li{margin:0 0 .4rem}
.journal td:nth-child(2) code{white-space:nowrap}
.reason{display:block;color:var(--soft);font-size:.875rem}
.reason::before{content:'because: '}
details{margin:.6rem 0}
summary{cursor:pointer;color:var(--soft);padding:.2rem 0}
summary:focus-visible,.scroll:focus-visible{outline:2px solid var(--rate);outline-offset:2px}
.glossary{display:grid;grid-template-columns:repeat(auto-fit,minmax(18rem,1fr));gap:.6rem 2.5rem;margin:0}
.glossary dt{font-weight:600}
.glossary dd{margin:0;color:var(--soft)}
figure{margin:0}
.sideways{display:none;color:var(--soft);font-size:.875rem;margin:0 0 .3rem}
@media (max-width:46rem){.sideways{display:block}}
figcaption{color:var(--soft);font-size:.9375rem;margin:0 0 .6rem}
.plot{display:block;width:100%;min-width:44rem;height:auto}
.plot text{fill:var(--soft);font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;font-variant-numeric:tabular-nums}
.plot .name{fill:var(--text);font-weight:600;paint-order:stroke;stroke:var(--bg);stroke-width:4px}
.plot .grid{stroke:var(--line);stroke-width:1}
.plot .rate{fill:var(--rate)}
.plot .failed{fill:var(--bad)}
.plot .wait{stroke:var(--wait);stroke-width:2;fill:none;stroke-linejoin:round}
.plot .dot{fill:var(--wait)}
.plot .worst{fill:var(--worst)}
.plot .harm{fill:var(--harm)}
.plot .heal{fill:var(--heal)}
.plot .instant{stroke:var(--strike);stroke-width:2.5}
.plot .strike{fill:var(--strike)}
.plot .stage{stroke:var(--mark);stroke-width:1;stroke-dasharray:3 3}
.plot .ball{fill:var(--bg);stroke:var(--mark);stroke-width:1.5}
.plot .cut{stroke:var(--bg);stroke-width:5;fill:none}
.plot .beyond{fill:var(--text);font-size:12px;paint-order:stroke;stroke:var(--bg);stroke-width:4px}
.plot .down{paint-order:stroke;stroke:var(--bg);stroke-width:4px}
.plot .down{fill:var(--bad);font-weight:600}
.plot .number{fill:var(--text);font-size:12px;font-weight:600;text-anchor:middle}
.legend{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;margin:.5rem 0 1rem;padding:0;list-style:none;font-size:.875rem;color:var(--soft)}
.legend li{display:flex;align-items:baseline}
.legend svg{flex:none;width:1.1rem;height:.8rem;margin-right:.4rem;vertical-align:-.05rem}
tfoot th,tfoot td{font-weight:600}
.stages td:first-child{font-weight:600;width:2rem}
@media print{.sideways{display:none}body{font-size:12px}.plot{min-width:0}details:not([open])>*{display:block}}
@media (max-width:30rem){main,footer{padding:1rem}h1{font-size:1.5rem}table{font-size:.875rem}th,td{padding-right:.5rem}
.conditions thead{display:none}.conditions tr{display:block;padding:.4rem .5rem;border-bottom:1px solid var(--line)}
.conditions td{display:block;border:0;padding:.05rem 0}.conditions td[data-label]::before{content:attr(data-label);color:var(--soft)}
.bad td{background:none}tr.bad{background:var(--bad-bg)}}
";
