// Above the images: their order, and which maps lie over them and how.
(function (R) {
  'use strict';
  const {html, useEffect, useState} = V, S = R.state;
  const {Range, Select, Toggle} = R.ui;

  const alike = (a, b) => a.method === b.method && a.layer === b.layer;
  // The same method of another run; or what that run opens on.
  R.viewIn = (run, like = R.views[S.view.value]) => {
    const same = R.views.findIndex(view => view.run === run && like && alike(view, like));
    return same >= 0 ? same : R.firstView(run);
  };

  // Turning a sort round in its own words: what comes first.
  const TURNED = {
    order: ['first to last', 'last to first'], name: ['A to Z', 'Z to A'], class: ['A to Z', 'Z to A'],
    gravest: ['gravest first', 'mildest first'], probability: ['highest first', 'lowest first'],
  };
  function turned() {
    const sort = S.sort.value, measure = R.measures.find(of => of.column === sort);
    const down = !measure || measure.better === 'lower';
    const words = TURNED[sort] ?? (down ? ['highest first', 'lowest first'] : ['lowest first', 'highest first']);
    return words[S.reverse.value ? 1 : 0];
  }
  const Order = () => html`<div class="group" role="group" aria-label="Order">
    <${Select} what="sort" label="Sort" of=${R.sorts()} onPick=${sort => R.set({sort, reverse: false})} />
    <button type="button" class="turn" onClick=${() => { S.reverse.value = !S.reverse.value; }}
      aria-label=${`Turned round: now ${turned()}`}><span aria-hidden="true">${S.reverse.value ? '↑' : '↓'}</span>${' '}
      <span class="said">${turned()}</span></button>
    <${Range} what="size" label="Size" min=${90} max=${320} step=${10} words=${side => `${side} px`} /></div>`;

  function Map() {
    const view = R.views[S.view.value], run = R.run.value;
    if (!view) return null;
    const of = R.views.map((one, k) => [k, one]).filter(([k, one]) => one.run === run && (one.kind !== 'figure' || one === view));
    const families = [...new Set(of.map(([, one]) => one.family ?? ''))];
    const option = ([k, one]) => html`<option key=${k} value=${k} selected=${one === view}>${R.viewTitle(one, false)}</option>`;
    const called = one => (one.weights && one.weights !== one.name ? `${one.name} (${one.weights})` : one.name);
    const runs = R.runs.map((one, k) => [k, called(one), R.viewIn(k) < 0]);
    const palettes = (view.signed ? R.signedPalettes : R.plainPalettes).map(
      name => [name, (R.index.uneven ?? []).includes(name) ? `${name} (uneven)` : name]);
    const roles = R.truths ? [['says', 'for the class said'], ['true', 'for the true class']] : [['says', 'for the class said']];
    if (S.role.value.startsWith('asked.')) roles.push([S.role.value, `for ${R.label(S.role.value.slice(6))}`]);
    const palette = R.paletteOf(view), shared = view.shared, pixels = view.kind !== 'figure';
    return html`<div class="group" role="group" aria-label="Map">
      ${R.runs.length > 1 && html`<label class="field"><span class="sr">Checkpoint</span>
        <select value=${run} onChange=${event => { S.view.value = R.viewIn(Number(event.target.value)); }}>
        ${runs.map(([k, name, off]) => html`<option key=${k} value=${k} selected=${k === run} disabled=${off}>${name}</option>`)}
        </select></label>`}
      <label class="field"><span class="sr">Map</span>
        <select value=${S.view.value} onChange=${event => { S.view.value = Number(event.target.value); }}>
        ${families.length < 2 ? of.map(option) : families.map(family => html`<optgroup key=${family} label=${family || 'others'}>
          ${of.filter(([, one]) => (one.family ?? '') === family).map(option)}</optgroup>`)}</select></label>
      ${roles.length > 1 && html`<${Select} what="role" label="The class it explains" of=${roles} hidden=${true} />`}
      ${pixels && html`<label class="field palette"><span class="sr">Palette</span>
        <canvas class="ramp" width="48" height="1" aria-hidden="true" ref=${canvas => canvas && R.paintBar?.(canvas, palette)}></canvas>
        <select value=${palette} onChange=${event => { S.palette.value = event.target.value; }}>
        ${palettes.map(([name, words]) => html`<option key=${name} value=${name} selected=${name === palette}>${words}</option>`)}
        </select></label>
      <span class="pair"><${Toggle} what="overlay" label="Overlay" />
      <${Range} what="opacity" label="Opacity" hidden=${true}
        words=${share => `${Math.round(100 * R.opacityOf(view, share))} %`} /></span>
      ${shared && html`<${Select} what="scale" label="Scale" hidden=${true}
        of=${[['own', 'own scale'], ['shared', 'one scale for all']]} />`}`}
    </div>`;
  }

  const narrow = matchMedia('(max-width: 860px)');
  R.Toolbar = () => {
    const [folds, setFolds] = useState(narrow.matches);
    useEffect(() => {
      const tell = () => setFolds(narrow.matches);
      narrow.addEventListener('change', tell);
      return () => narrow.removeEventListener('change', tell);
    }, []);
    if (!folds) return html`<div class="toolbar" role="toolbar" aria-label="Order and maps"><${Order} /><${Map} /></div>`;
    return html`<details class="toolbar" name="fold"><summary>View</summary><div class="panel"><${Order} /><${Map} /></div></details>`;
  };

  // What is filtered, each with its cross; nothing where nothing is.
  R.Filtered = () => {
    const of = R.filters.value;
    if (!of.length) return null;
    return html`<div class="filtered" role="group" aria-label="Active filters">
      ${of.map(({text, keys}) => html`<button type="button" key=${keys[0]} class="chip" aria-label=${`Remove the filter ${text}`}
        onClick=${() => R.set(Object.fromEntries(keys.map(key => [key, R.usual(key)])))}>
        <span>${text}</span><span aria-hidden="true">✕</span></button>`)}
      <button type="button" class="link" onClick=${R.clear}>Clear all</button></div>`;
  };

  R.RunNotes = () => {
    const words = [R.runs[R.run.value]?.note, R.index.fixed].filter(Boolean);
    return words.length ? html`<p class="run-note" role="note">${words.join(' ')}</p>` : null;
  };
})(globalThis.R);
