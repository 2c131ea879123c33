// The page: its head, its tabs, and what is drawn where.
(function (R) {
  'use strict';
  const {html, render} = V, S = R.state;

  const models = [...new Set(R.runs.map(run => run.model))];
  R.title = (R.index.title ?? '').replace(/^cnnviz report: /, '') || models.join(', ') || 'cnnviz report';
  document.title = `${R.title} · cnnviz report`;

  const tabs = [['images', 'Images']], units = R.index.tabs?.dreams ?? [];
  const wall = units.some(one => one.painted) ? 'Dreams' : 'Units';
  if (units.length) tabs.push(['dreams', wall]);
  if (R.index.tabs?.evaluation?.length) tabs.push(['evaluation', 'Evaluation']);
  if (R.index.tabs?.findings?.length) tabs.push(['findings', 'Findings']);
  if (!R.n && tabs.length > 1) tabs.shift();
  const chosen = () => (tabs.some(([key]) => key === S.tab.value) ? S.tab.value : tabs[0][0]);

  function Tabs() {
    if (tabs.length < 2) return null;
    const turn = event => {
      const by = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (!by) return;
      event.preventDefault();
      const at = (tabs.findIndex(([key]) => key === chosen()) + by + tabs.length) % tabs.length;
      S.tab.value = tabs[at][0];
      event.currentTarget.children[at].focus();
    };
    return html`<div class="tabs" role="tablist" aria-label="Parts of the report" onKeyDown=${turn}>${tabs.map(([key, words]) => html`
      <button type="button" role="tab" key=${key} id=${`tab-${key}`} aria-selected=${key === chosen() ? 'true' : 'false'}
        aria-controls="part" tabindex=${key === chosen() ? 0 : -1} onClick=${() => { S.tab.value = key; }}>${words}</button>`)}</div>`;
  }

  // Of what is known, how much is right; and how many are shown.
  function Counts() {
    const {outcomes} = R.tallies.value, [right, wrong, , failed] = outcomes, known = right + wrong;
    return html`<div class="counts">
      ${known > 0 && html`<span class="tally"><strong>${R.percent(right / known)}</strong> right${' '}
        <span class="dim">of ${known.toLocaleString('en')} with a known truth</span></span>`}
      ${failed > 0 && html`<span class="tally failed">${failed.toLocaleString('en')} failed</span>`}
      <span class="tally" id="count" role="status" aria-live="polite">${R.counted.value}</span></div>`;
  }

  const THEMES = {auto: ['◐', 'as the system'], dark: ['☾', 'dark'], light: ['☀', 'light']};
  const nextTheme = {auto: 'dark', dark: 'light', light: 'auto'};
  function Head() {
    const [sign, words] = THEMES[R.theme.value];
    const names = R.runs.length > 1 ? R.runs.map(run => run.name).join(' · ') : R.runs[0]?.weights ?? '';
    const said = R.title.includes(names) ? '' : names;
    return html`<header class="head"><div class="title"><h1 title=${R.title}>${R.title}</h1>${said && html`<span class="dim">${said}</span>`}</div>
      <${Tabs} />${chosen() === 'images' ? html`<${Counts} />` : html`<span class="grow"></span>`}
      <div class="tools">
        <button type="button" class="copy" onClick=${R.copyLink} aria-keyshortcuts="y">Copy<span class="wide-only"> link</span></button>
        ${chosen() === 'images' && html`<button type="button" class="icon wide-only" aria-label="Print what is filtered" title="Print what is filtered"
          onClick=${R.print}><svg viewBox="0 0 16 16" aria-hidden="true"><path d="M4.5 5.5v-4h7v4M4.5 11.5h-2v-6h11v6h-2M4.5 9.5h7v5h-7z" /></svg></button>`}
        <button type="button" class="icon" aria-label=${`Theme: ${words}`} title=${`Theme: ${words}`}
          onClick=${() => { R.theme.value = nextTheme[R.theme.value]; }}><span aria-hidden="true">${sign}</span></button>
        <button type="button" class="icon" aria-label="Keys" title="Keys (?)" aria-keyshortcuts="?"
          onClick=${() => { R.helpOpen.value = true; }}><span aria-hidden="true">?</span></button></div></header>`;
  }

  const Images = () => html`<div class="images" id="part"><${R.Side} />
    <main class="work" aria-label="Images"><${R.Toolbar} /><${R.RunNotes} /><${R.Filtered} /><${R.Grid} /></main></div>`;
  const PARTS = {
    images: Images,
    dreams: () => html`<${R.Wall} of=${R.index.tabs.dreams} label=${wall} />`,
    findings: () => html`<${R.Findings} />`,
    evaluation: () => html`<${R.Evaluation} />`,
  };

  function App() {
    if (R.printing.value) return html`<${R.Printed} />`;
    const part = chosen();
    return html`<div class="page">
      <${Head} /><${PARTS[part]} />
      ${R.Detail && html`<${R.Detail} />`}<${R.MatrixDialog} /><${R.Help} />
      <div class="toast" role="status" aria-live="polite">${R.toast.value}</div></div>`;
  }
  const root = document.getElementById('app');
  R.flush = () => render(html`<${App} />`, root);
  R.flush();
})(globalThis.R);
