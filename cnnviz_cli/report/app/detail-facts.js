// What is written beside the pictures of the dialog: what the network says, the maps, their scale, and where it is all from.
(function (R) {
  'use strict';
  const {html, useEffect, useLayoutEffect, useRef, useState} = V;

  const TOP = 6;  // predictions of a run
  const MARKS = {says: 'what it says', true: 'what is true', both: 'what it says, and it is true', asked: 'what was asked for'};
  const Section = ({title, children}) => html`<section><h3>${title}</h3>${children}</section>`;
  const link = (path, words) => path && html`<a href=${path} target=_blank rel=noopener>${words}</a>`;
  const runName = run => `${run.name}: ${run.model}, ${run.weights}`;

  function Bar({label, share, text, mark}) {
    return html`<li class=${mark ? 'true' : ''}><span class=name>${label}${mark && html` <span class=right>✓ true</span>`}</span>
      <span class=track aria-hidden=true><span style=${{width: `${100 * Math.max(0, Math.min(1, share || 0))}%`}}></span></span><span class=text>${text}</span></li>`;
  }

  // Whether there is anything to stand under the heading: a study may say nothing of classes.
  const says = said => Boolean(!said || said.error || said.truth || said.predictions.length || said.sentences?.length);

  function Says({i, record, run}) {
    const said = record.runs[run], about = R.runs[run];
    const name = R.runs.length > 1 && html`<h4>${runName(about)} ${about.random && html`<span class=random>random weights</span>`}</h4>`;
    if (!said) return html`${name}<p class=dim>This run does not have the image.</p>`;
    const told = R.value(R.truthColumn(run), i), truth = said.truth ?? (told === null ? null : [told, null, '']), shown = said.predictions.slice(0, TOP), known = truth && shown.some(([label]) => label === truth[0]);
    return html`${name}${said.error && html`<p class="state failed">${said.error}</p>`}
      <ol class=bars>${shown.map(([label, share, text, title]) => html`<${Bar} label=${title || R.label(label)} share=${share} text=${text} mark=${truth?.[0] === label} />`)}
        ${truth && !known && html`<${Bar} label=${R.label(truth[0])} share=${truth[1]} text=${truth[2]} mark=${true} />`}</ol>
      ${!truth && !said.error && R.truths && html`<p class=dim>What is true is not known.</p>`}
      ${(said.sentences || []).map(words => html`<p class=state>${words}</p>`)}`;
  }

  function Tile({map, url}) {
    const canvas = useRef(), plain = !R.drawable(map) || !(map.data || map.small);
    useLayoutEffect(() => { if (!plain) R.paint(canvas.current, map, {palette: R.paletteOf(R.views[map.view]), opacity: 1, scale: R.scaleFor(map, null)(map)}); });
    R.state.palette.value; R.state.scale.value;
    const [l, t, r, b] = map.box || [0, 0, 1, 1], long = Math.max(r - l, b - t);
    return html`<span class=tile aria-hidden=true>${plain ? html`<span class=none>${R.views[map.view].kind === 'figure' ? '▣' : '∅'}</span>`
      : html`<canvas ref=${canvas} width=${Math.max(1, Math.round(40 * (r - l) / long))} height=${Math.max(1, Math.round(40 * (b - t) / long))}></canvas>`}</span>`;
  }

  function Maps({record, a, b}) {
    const two = R.state.mode.value !== 'one';
    const groups = R.runs.map((run, k) => [run, record.maps.map((map, n) => [map, n]).filter(([map]) => R.views[map.view].run === k)]).filter(([, maps]) => maps.length);
    const choose = (name, map, n, on, words, pick) => html`<label class=choice title=${words}><input type=radio name=${name} checked=${on} aria-label=${`${words} ${R.titleOf(map)}`} onChange=${pick} /><span aria-hidden=true>${name}</span></label>`;
    return html`<div class=maps role=group aria-label="Maps">${groups.map(([run, maps]) => html`${groups.length > 1 && html`<h4>${runName(run)} ${run.random && html`<span class=random>random weights</span>`}</h4>`}
      <ul>${maps.map(([map, n]) => html`<li class=${map === a ? 'chosen' : ''}><button type=button class=pick aria-pressed=${map === a} onClick=${() => R.detail.pick(n)}>
        <${Tile} map=${map} /><span class=words><b>${R.views[map.view].title}</b>${R.targetOf(map) && html`<span class=target>${R.targetOf(map)}</span>`}
        <span class=dim>${[R.views[map.view].layer, map.role !== 'asked' && map.target !== null && MARKS[map.role]].filter(Boolean).join(' · ')}</span>
        ${map.state !== 'ok' && html`<span class=odd>! ${map.state}</span>`}</span>${n < 9 && html`<kbd>${n + 1}</kbd>`}</button>
        ${two && choose('B', map, n, map === b, 'Compare with', () => R.detail.compare(map))}</li>`)}</ul>`)}
      ${two && html`<label class=choice-photo><input type=radio name=B checked=${b === null} onChange=${() => R.detail.compare(null)} /> compare with the image alone</label>`}</div>`;
  }

  // The colours with the numbers that they stand for; a mark where the pointer is.
  function Scale({a, b}) {
    const canvas = useRef(), view = R.views[a.view], palette = R.paletteOf(R.views[a.view]), two = R.state.mode.value !== 'one';
    const [low, high] = R.scaleFor(a, two ? b : null)(a) || a.scale, at = R.pointer.value, value = at && R.valueAt(a, at.x, at.y);
    const beside = two && b && R.drawable(b) && (R.scaleFor(a, b)(b) || b.scale), others = beside && (beside[0] !== low || beside[1] !== high) ? beside : null;
    const far = Math.max(Math.abs(low), Math.abs(high)), ends = view.signed ? [-far, 0, far] : [low, (low + high) / 2, high];
    const own = value && a.scale[0] + value.share * (a.scale[1] - a.scale[0]);
    const mark = value && Math.max(0, Math.min(1, (own - ends[0]) / (ends[2] - ends[0] || 1)));
    useLayoutEffect(() => R.paintBar(canvas.current, palette), [palette]);
    const fits = name => (R.palettes[name].length / 3 % 2 === 1) === Boolean(view.signed), uneven = R.index.uneven || [];
    return html`<div class=scale><div class=ramp><canvas ref=${canvas} width=256 height=1 role=img aria-label=${`Colours from ${R.number(ends[0])} to ${R.number(ends[2])}`}></canvas>
        ${value && html`<span class=at style=${{left: `${100 * mark}%`}}></span>`}</div>
      <div class=ends><span>${R.number(ends[0])}</span><span>${R.number(ends[1])}</span><span>${R.number(ends[2])}</span></div>
      ${others && html`<p class=dim>B has a scale of its own: ${R.number(others[0])} to ${R.number(others[1])}.</p>`}
      ${a.range && html`<p class=dim>${others ? 'A’s' : 'The map’s'} own values: ${R.number(a.range[0])} to ${R.number(a.range[1])}.</p>`}
      <div class=controls><label>palette <select onChange=${e => R.set({palette: e.target.value})}>${Object.keys(R.palettes).filter(fits).map(name => html`<option value=${name} selected=${name === palette}>${name}${uneven.includes(name) ? ' (not uniform)' : ''}</option>`)}</select></label>
        <label>opacity <input type=range min=0 max=1 step=.05 value=${R.state.opacity.value} aria-valuetext=${`${Math.round(100 * R.opacityOf(view, R.state.opacity.value))} %`} onInput=${e => R.set({opacity: Number(e.target.value)})} /></label>
        <label><input type=checkbox checked=${R.state.overlay.value} onChange=${e => R.set({overlay: e.target.checked})} /> evidence <kbd>o</kbd></label>
        <label><input type=checkbox checked=${R.state.scale.value === 'shared'} onChange=${e => R.set({scale: e.target.checked ? 'shared' : 'own'})} /> one scale for all</label></div></div>`;
  }

  // How differently two maps rank the places of an image, where the page knows.
  function differ(i, a, b) {
    const pair = a && b && R.disagreements.find(one => one.views?.includes(a.view) && one.views.includes(b.view) && a.view !== b.view);
    return pair ? R.value(pair.column, i) : null;
  }

  function Measures({i, a, b}) {
    const two = R.state.mode.value !== 'one' && b, apart = two ? differ(i, a, b) : null, names = [...new Set([...Object.keys(a?.measures || {}), ...(two ? Object.keys(b.measures || {}) : [])])];
    if (!names.length && apart === null) return null;
    return html`<${Section} title="Measures">${names.length > 0 && html`<table class=measures>${two && html`<thead><tr><td></td><th scope=col>A</th><th scope=col>B</th></tr></thead>`}
      <tbody>${names.map(name => html`<tr><th scope=row>${R.index.titles?.[name] ?? name.replaceAll('_', ' ')}</th>${[a, ...(two ? [b] : [])].map(map => html`<td>${R.number(map?.measures?.[name])}</td>`)}</tr>`)}</tbody></table>`}
      ${apart !== null && html`<p class=dim>The two views disagree by ${R.number(apart)}: 0 is the same order of places, 1 none in common, 2 the opposite.</p>`}<//>`;
  }

  function Command({text}) {
    return html`<${Section} title="The command that draws it"><div class=command><pre tabindex=0 aria-label="Command"><code>${text.split(' ').map((word, k) => html`${k > 0 && ' '}<span class=word>${word}</span>`)}</code></pre>
      <button type=button onClick=${() => R.copy(text, 'The command is copied.')}>Copy</button></div><//>`;
  }

  // What the manifest says, unpacked when it is looked at.
  function ManifestRecord({i, run}) {
    const [open, setOpen] = useState(false), [text, setText] = useState('…');
    useEffect(() => {
      if (!open) return undefined;
      let live = true;
      const tell = words => live && setText(words);
      R.manifestRecords(i).then(records => tell(records[run] ? JSON.stringify(records[run], null, 1) : 'It is too long for the page: see the manifest.'),
        () => tell('It cannot be read here.'));
      return () => { live = false; };
    }, [open, i, run]);
    return html`<details onToggle=${event => setOpen(event.currentTarget.open)}><summary>The manifest’s record</summary>
      ${open && html`<pre tabindex=0 aria-label="The manifest’s record">${text}</pre>`}</details>`;
  }

  function Files({i, record, a}) {
    const run = a ? R.views[a.view].run : R.run.value, said = record.runs[run];
    return html`<${Section} title="Files"><p class=links>${a && link(a.figure, 'figure')} ${!record.photo?.startsWith('data:') && link(record.photo, 'image')} ${said && link(said.folder, 'folder')}
      ${(said?.sheets || []).map(([title, url]) => link(url, title))} ${link(R.runs[run].manifest, 'manifest')}</p>
      ${record.size && html`<p class=dim>${record.size[0]} × ${record.size[1]} pixels</p>`}
      ${said && html`<${ManifestRecord} key=${`${run} ${i}`} i=${i} run=${run} />`}
      <//>`;
  }

  const Note = ({i}) => html`<${Section} title="Note"><textarea rows=2 aria-label="Note on this image" placeholder="Kept in the address, and exported with the others" value=${R.note(R.source(i))} onInput=${e => R.setNote(R.source(i), e.target.value)}></textarea><//>`;

  R.Facts = ({i, record, a, b}) => {
    const two = R.state.mode.value !== 'one', shown = [a, ...(two && b ? [b] : [])].filter(map => map?.sentence);
    const first = a ? R.views[a.view].run : R.run.value, rest = R.runs.map((_, k) => k).filter(k => k !== first && R.runs[k].images > 0);
    const random = R.runs[first].random, spoken = R.runs.length > 1 || R.truths || says(record.runs[first]);
    return html`<div class=facts>
      ${shown.map(map => html`<p class=state><b>${two ? `${map === a ? 'A' : 'B'}, ` : ''}${R.titleOf(map)}: ${map.state}.</b> ${map.sentence}</p>`)}
      ${a && R.views[a.view].kind === 'figure' && !record.drawn && html`<p class=state>${a.figure
        ? 'Shown as it was drawn: the page has no numbers of it, so there is nothing to recolour and no value to read.'
        : 'A single file has no figures, and the page has no numbers of this one.'}</p>`}
      ${record.thumb && !record.drawn && !record.photo && Math.max(...record.size || [0]) > R.index.side && html`<p class=state>The image itself is not here: this is its thumbnail, enlarged. ${R.index.mode === 'single'
        ? html`With <code>--photos</code> <code>DIR</code> <code>--previews</code> <code>640</code> the page holds a larger picture.` : html`<code>--photos</code> <code>DIR</code> names the images’ folder.`}</p>`}
      ${record.drawn && R.index.fixed && html`<p class=state>${R.index.fixed}</p>`}
      ${random && html`<p class=state>These weights are random. If this map resembles that of the trained network, it shows nothing that was learnt.</p>`}
      ${spoken && html`<${Section} title="What the network says"><${Says} i=${i} record=${record} run=${first} />
        ${rest.slice(0, 1).map(run => html`<${Says} i=${i} record=${record} run=${run} />`)}
        ${rest.length > 1 && html`<details><summary>${rest.length - 1} more ${rest.length > 2 ? 'runs' : 'run'}</summary>${rest.slice(1).map(run => html`<${Says} i=${i} record=${record} run=${run} />`)}</details>`}<//>`}
      ${a && R.drawable(a) && !R.asFigure(record, a) && html`<${Section} title=${two && b && R.state.scale.value === 'own' ? 'Scale of A' : 'Scale'}><${Scale} a=${a} b=${b} /><//>`}
      <${Section} title="Maps">${record.maps.length ? html`<${Maps} record=${record} a=${a} b=${b} />` : html`<p class=dim>There are no maps of it.</p>`}<//>
      <${Measures} i=${i} a=${a} b=${b} />
      ${a?.command && html`<${Command} text=${a.command} />`}
      <${Files} i=${i} record=${record} a=${a} />
      <${Note} i=${i} /></div>`;
  };
}(globalThis.R = globalThis.R || {}));
