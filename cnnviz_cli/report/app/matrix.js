// Which classes are taken for which: a table of the most confused ones that filters, and the pairs as a list.
(function (R) {
  'use strict';
  const {html, signal, useRef, useState} = V, S = R.state;
  const WHOLE = 100;  // classes in the largest table: a table of a thousand would be a million cells
  R.matrixOpen = signal(false);

  const pressed = (t, p) => S.truth.value === String(t) && S.said.value === String(p);
  function pick(t, p) {
    const on = pressed(t, p);
    R.set({truth: on ? '' : String(t), said: on ? '' : String(p)});
  }
  const short = n => (n < 1000 ? String(n) : n < 1e4 ? `${(n / 1000).toFixed(1)}k` : `${Math.round(n / 1000)}k`);

  function Table({matrix, classes}) {
    const {at, most} = matrix;
    return html`<table class="matrix">
      <caption class="sr">Confusion matrix. Rows are true classes, columns are what the network says. A number filters
        the images.</caption>
      <thead><tr><th class="corner" scope="col"><span class="sr">True class</span></th>
        ${classes.map(p => html`<th scope="col" key=${p} title=${R.label(p)}><span>${R.label(p)}</span></th>`)}</tr></thead>
      <tbody>${classes.map(t => html`<tr key=${t}><th scope="row" title=${R.label(t)}><span>${R.label(t)}</span></th>
        ${classes.map(p => {
          const n = at(t, p), share = Math.sqrt(n / most);
          const name = t === p ? `${R.count(n, 'image')} of ${R.label(t)}, said rightly`
            : `${R.count(n, 'image')} of ${R.label(t)} called ${R.label(p)}`;
          return html`<td key=${p} class=${t === p ? 'diagonal' : ''}>${n > 0 && html`<button type="button"
            class=${share > 0.62 ? 'strong' : ''} style=${{'--share': `${Math.round((share > 0.62 ? 55 + 45 * share : 8 + 55 * share))}%`}}
            aria-pressed=${pressed(t, p) ? 'true' : 'false'} aria-label=${name} title=${name}
            onClick=${() => pick(t, p)}>${short(n)}</button>`}</td>`;
        })}</tr>`)}</tbody></table>`;
  }

  const Pairs = ({pairs, most}) => html`<ol class="pairs">${pairs.map(([t, p, n]) => html`<li key=${`${t} ${p}`}>
    <button type="button" aria-pressed=${pressed(t, p) ? 'true' : 'false'} onClick=${() => pick(t, p)}
      title="${R.label(t)} called ${R.label(p)}: ${R.count(n, 'image')}">
      <span class="bar" style=${{width: `${100 * n / most}%`}} aria-hidden="true"></span>
      <span class="pair"><span>${R.label(t)}</span> <span class="dim">called</span> <span>${R.label(p)}</span></span>
      <span class="number">${n.toLocaleString('en')}</span></button></li>`)}</ol>`;

  // In the panel: a few classes, or the pairs where there are too many for a table to say anything.
  function Confusion({room}) {
    const matrix = R.matrix.value, {confused, mistakes} = matrix;
    if (!R.truths) {
      return html`<p class="dim">No truth is known. <code>--truth</code> says where it is.</p>`;
    }
    if (R.runs[R.run.value]?.multilabel) {
      return html`<p class="dim">Classes do not exclude each other in this run, so none is taken for another. An image is
        right if its true class has 50 % or more.</p>`;
    }
    if (!R.among.classes.value.length) return null;
    if (!confused.length) return html`<p class="dim">Nothing of what is filtered has a known truth.</p>`;
    const shown = confused.slice(0, room);
    return html`<${Table} matrix=${matrix} classes=${shown} />
      <div class="under"><span class="dim">${confused.length > room
          ? `Most confused ${room} of ${confused.length}` : 'Rows: true. Columns: said.'}</span>
        <button type="button" class="link" onClick=${() => { R.matrixOpen.value = true; }}>Whole matrix</button></div>
      ${mistakes.length > 0 && html`<h3>Most confused pairs</h3>
        <${Pairs} pairs=${mistakes.slice(0, 5)} most=${mistakes[0][2]} />`}`;
  }

  function MatrixDialog() {
    const ref = useRef(), open = R.matrixOpen.value, [all, setAll] = useState(false);
    R.useModal(ref, open);
    const matrix = open ? R.matrix.value : null;
    const wide = matrix && all ? WHOLE : 12;
    const more = matrix && matrix.confused.length > 12;
    return html`<dialog class="sheet wide" ref=${ref} aria-labelledby="matrix-title"
      onClose=${() => { R.matrixOpen.value = false; }}>${open && html`
      <div class="sheet-bar"><h2 id="matrix-title">What is taken for what</h2><span class="grow"></span>
        ${more && html`<button type="button" onClick=${() => setAll(!all)}>
          ${all ? 'The 12 most confused' : `All ${Math.min(WHOLE, matrix.confused.length)} classes`}</button>`}
        <button type="button" class="icon" aria-label="Close" onClick=${() => ref.current.close()}>✕</button></div>
      <div class="sheet-body" tabindex="0" role="group" aria-label="Confusion matrix and pairs">
        <p class="dim">Rows are true classes, columns are what the network says, among the images that the other filters let
          through. ${more && !all ? `These are the 12 most confused of ${matrix.confused.length} classes.` : ''}${' '}
          ${all && matrix.confused.length > WHOLE
            ? `These are the ${WHOLE} most confused of ${matrix.confused.length} classes; the pairs below are of all.` : ''}${' '}
          A number filters the images and stays pressed.</p>
        <div class="beside"><div class="scroll" tabindex="0" role="group" aria-label="Confusion matrix">
          <${Table} matrix=${matrix} classes=${matrix.confused.slice(0, wide)} /></div>
        ${matrix.mistakes.length > 0 && html`<div class="list"><h3>Most confused pairs${matrix.mistakes.length > WHOLE
            ? `: ${WHOLE} of ${matrix.mistakes.length.toLocaleString('en')}` : ''}</h3>
          <${Pairs} pairs=${matrix.mistakes.slice(0, WHOLE)} most=${matrix.mistakes[0][2]} /></div>`}</div>
      </div>`}</dialog>`;
  }

  R.Confusion = Confusion;
  R.MatrixDialog = MatrixDialog;
})(globalThis.R);
