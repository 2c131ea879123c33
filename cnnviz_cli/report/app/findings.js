// What studies have found of a folder: their sentences, figures at full size, and tables.
(function (R) {
  'use strict';
  const {html} = V;

  // An SVG or a PDF is no picture here; where its file is beside the page, a link leads to it.
  const drawable = of => /\.(png|webp|jpe?g|svg)$/i.test(of.figure ?? '') || Boolean(of.image);
  const source = of => of.figure ?? `data:image/webp;base64,${of.image}`;

  function Figure({of, run}) {
    const [wide, tall] = of.size, words = [of.title, of.layer].filter(Boolean).join(', ');
    const image = html`<img src=${source(of)} width=${wide} height=${tall} loading="lazy" decoding="async" alt=${`${words}: the figure of ${run}`} />`;
    if (!drawable(of)) {
      return html`<p>${of.figure ? html`<a href=${of.figure} target="_blank" rel="noopener">${words}</a>`
        : html`<span class="dim">${words}: in the run's folder</span>`}</p>`;
    }
    return html`<figure class="finding">${of.figure ? html`<a href=${of.figure} target="_blank" rel="noopener">${image}</a>` : image}
      <figcaption class="dim">${words}</figcaption></figure>`;
  }

  function Study({of}) {
    return html`<section class="study"><h2>${R.runs.length > 1 ? `${of.title} · ${of.run}` : of.title}</h2><p class="dim">${of.subtitle}</p>
      ${of.lines.length > 0 && html`<ul class="said">${of.lines.map(line => html`<li key=${line}>${line}</li>`)}</ul>`}
      ${of.figures.map((figure, at) => html`<${Figure} key=${at} of=${figure} run=${of.run} />`)}
      ${of.tables.length > 0 && html`<p>Tables: ${of.tables.map(([name, address], at) => html`${at > 0 ? ', ' : ''}${address
        ? html`<a key=${name} href=${address}>${name}</a>` : html`<span key=${name}>${name}</span>`}`)}</p>`}</section>`;
  }

  R.Findings = () => html`<main class="wall-page findings" id="part" aria-label="Findings">
    ${R.index.tabs.findings.map((of, at) => html`<${Study} key=${at} of=${of} />`)}</main>`;
})(globalThis.R);
