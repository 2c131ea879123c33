// Figures of the network itself as a wall; one is opened in a sheet with what is known of it.
(function (R) {
  'use strict';
  const {html, signal, useRef, useState} = V;
  const open = signal(null);

  const thumb = of => (of.thumb ? `data:image/webp;base64,${of.thumb}` : of.figure);

  function Sheet({of}) {
    const ref = useRef(), at = open.value, one = at === null ? null : of[at];
    R.useModal(ref, Boolean(one));
    const step = by => {
      const to = at + by;
      if (of[to]) open.value = to;
    };
    return html`<dialog class="sheet wide" ref=${ref} aria-labelledby="wall-title"
      onKeyDown=${event => {
        const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
        if (by && !event.ctrlKey && !event.metaKey && !event.altKey) {
          event.preventDefault();
          step(by);
        }
      }}
      onClose=${() => {
        const last = open.value;
        open.value = null;
        // The browser has given the focus back to the one that was opened first.
        document.querySelector(`.wall [data-at="${last}"]`)?.focus();
      }}>${one && html`
      <div class="sheet-bar"><h2 id="wall-title">${one.title}</h2>
        <span class="dim">${(at + 1).toLocaleString('en')} of ${of.length.toLocaleString('en')}</span><span class="grow"></span>
        <button type="button" class="icon" aria-label="Previous" disabled=${at === 0} onClick=${() => step(-1)}>←</button>
        <button type="button" class="icon" aria-label="Next" disabled=${at === of.length - 1} onClick=${() => step(1)}>→</button>
        <button type="button" class="icon" aria-label="Close" onClick=${() => ref.current.close()}>✕</button></div>
      <div class="sheet-body shown" tabindex="0" role="group" aria-label=${one.title}>
        <a class="large" href=${one.figure} target="_blank" rel="noopener"><img src=${one.figure ?? thumb(one)} alt=${`${one.title}, the figure`} /></a>
        <div class="known">${one.subtitle && !one.facts?.some(([, value]) => value === one.subtitle) && html`<p>${one.subtitle}</p>`}
          ${one.sentences?.map(sentence => html`<p key=${sentence}>${sentence}</p>`)}
          ${one.facts?.length > 0 && html`<dl class="facts">${one.facts.map(([name, value]) => html`<div key=${name}><dt>${name}</dt>
            <dd>${value}</dd></div>`)}</dl>`}
          ${one.figure && html`<p><a href=${one.figure} target="_blank" rel="noopener">The figure's file</a></p>`}</div></div>`}</dialog>`;
  }

  const groupOf = one => [R.runs.length > 1 ? R.runs[one.run]?.name : '', one.layer].filter(Boolean).join(' · ');
  R.Wall = ({of, label}) => {
    const [words, find] = useState(''), low = words.trim().toLowerCase();
    const shown = of.map((one, at) => [one, at])
      .filter(([one]) => !low || `${one.title} ${one.subtitle ?? ''} ${one.layer ?? ''}`.toLowerCase().includes(low));
    const groups = new Map();
    for (const item of shown) groups.set(groupOf(item[0]), [...(groups.get(groupOf(item[0])) ?? []), item]);
    return html`<main class="wall-page" id="part" aria-label=${label}>
      <div class="wall-bar"><label class="field"><span class="sr">Find in ${label}</span><input type="search" value=${words}
        placeholder="name or layer" onInput=${event => find(event.target.value)} /></label>
        <span class="dim" role="status">${shown.length === of.length ? `${of.length.toLocaleString('en')} in all`
          : `${shown.length} of ${of.length}`}</span></div>
      ${shown.length === 0 && html`<div class="empty"><p class="big">Nothing is called so.</p>
        <button type="button" onClick=${() => find('')}>Show all</button></div>`}
      ${[...groups].map(([group, items]) => html`<section key=${group}>${group && html`<h2>${group}</h2>`}
        <ul class="wall">${items.map(([one, at]) => html`<li key=${at}><button type="button" class="tile" data-at=${at}
          onClick=${() => { open.value = at; }}><span class="frame"><img src=${thumb(one)} alt="" loading="lazy" decoding="async" /></span>
          <span class="caption"><span class="class">${one.title}</span>${one.subtitle && html`<span class="dim">${one.subtitle}</span>`}</span>
          </button></li>`)}</ul></section>`)}
      <${Sheet} of=${of} /></main>`;
  };
})(globalThis.R);
