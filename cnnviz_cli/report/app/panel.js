// The panel of filters at the side; on a phone it folds away.
(function (R) {
  'use strict';
  const {html, useEffect, useRef, useState} = V, S = R.state;
  const {Chips, Range, Section, Spread, Toggle} = R.ui;

  const Classes = ({what, label, of}) => {
    const value = S[what].value;
    return html`<label class="field"><span class="name">${label}</span>
      <select value=${value} onChange=${event => { S[what].value = event.target.value; }}>
        <option value="" selected=${value === ''}>any class</option>
        ${of.map(([k, n]) => html`<option key=${k} value=${k} selected=${value === String(k)}>${R.label(k)} (${n})</option>`)}
      </select></label>`;
  };

  function Probability() {
    const name = `probability.${R.run.value}`;
    if (!R.column(name) || !R.said.value.length) return null;
    return html`<${Section} title="Probability">
      <${Spread} name=${name} of=${R.among.probability.value} from=${S.lo.value} to=${S.hi.value} />
      <${Range} what="lo" label="at least" words=${R.percent} />
      <${Range} what="hi" label="at most" words=${R.percent} /></${Section}>`;
  }

  // A number of a field; what is half typed or no number counts as not asked.
  const Bound = ({what, label, placeholder}) => html`<label class="field"><span class="name">${label}</span>
    <input type="text" inputmode="decimal" class="bound" value=${S[what].value} placeholder=${placeholder}
      onInput=${event => {
        const text = event.target.value.trim().replace(',', '.').replace('−', '-');
        if (text === '' || Number.isFinite(Number(text))) S[what].value = text === '' ? '' : String(Number(text));
      }} /></label>`;

  function Measures() {
    const of = R.measures.concat(R.compared(S.measure.value).map(one => ({...one, title: `Disagreement: ${one.title}`})))
      .filter(one => R.column(one.column));
    if (!of.length) return null;
    const name = S.measure.value, spread = name && Spread.of(name);
    return html`<${Section} title="Measure">
      <label class="field"><span class="sr">Measure</span><select value=${name}
        onChange=${event => R.set({measure: event.target.value, from: '', to: ''})}>
        <option value="" selected=${name === ''}>none</option>
        ${of.map(one => html`<option key=${one.column} value=${one.column} selected=${one.column === name}>${one.title}</option>`)}
      </select></label>
      ${name && html`<${Spread} name=${name} of=${R.among.measure.value}
          from=${S.from.value === '' ? -Infinity : Number(S.from.value)}
          to=${S.to.value === '' ? Infinity : Number(S.to.value)} />
        <${Bound} what="from" label="at least" placeholder=${R.number(spread.lo)} />
        <${Bound} what="to" label="at most" placeholder=${R.number(spread.hi)} />`}</${Section}>`;
  }

  function Panel() {
    const {outcomes, states} = R.tallies.value, noted = Object.keys(R.notes.value).length;
    const asked = R.said.value.length || R.truths ? 'file name or class' : 'file name';
    const kinds = R.index.states.map((word, k) => [word, '', word, states[k]])
      .filter(([word, , , n]) => n > 0 && word !== 'ok' && word !== 'failed');
    return html`<${Section} title="Find"><input type="search" id="search" aria-label=${`Find by ${asked}`} value=${S.q.value}
        placeholder=${asked} aria-keyshortcuts="/" onInput=${event => { S.q.value = event.target.value; }} />
      </${Section}>
      <${Section} title="Outcome"><${Chips} what="outcome" label="Outcome" of=${R.OUTCOMES.map(
        (of, k) => [of.key, of.mark, of.word, outcomes[k]]).filter(of => of[3] > 0)} /></${Section}>
      ${kinds.length > 0 && html`<${Section} title="State of the map">
        <${Chips} what="states" label="State of the map" of=${kinds} /></${Section}>`}
      ${R.truths && html`<${Section} title="Confusion"><${R.Confusion} room=${8} /></${Section}>`}
      ${R.said.value.length > 0 && html`<${Section} title="Classes"><${Classes} what="said" label="said" of=${R.said.value} />
        ${R.truths && html`<${Classes} what="truth" label="true" of=${R.true.value} />`}</${Section}>`}
      <${Probability} /><${Measures} />
      <${Section} title="Notes"><${Toggle} what="noted" label=${`only with a note (${noted})`} />
        ${noted > 0 && html`<button type="button" onClick=${R.saveNotes}>Save the notes as CSV</button>`}
        <p class="dim">${noted ? 'Notes are kept in the address: copy the link to keep them.'
          : 'Open an image to write a note on it.'}</p></${Section}>
      ${(R.index.missing ?? []).length > 0 && html`<${Section} title="What is not here">
        ${R.index.missing.map(sentence => html`<p class="dim" key=${sentence}>${sentence}</p>`)}</${Section}>`}`;
  }

  // Wide: a column of its own. Narrow: folded, so that images come first.
  const narrow = matchMedia('(max-width: 860px)');
  function Side() {
    const [folds, setFolds] = useState(narrow.matches), ref = useRef();
    useEffect(() => {
      const tell = () => setFolds(narrow.matches);
      narrow.addEventListener('change', tell);
      return () => narrow.removeEventListener('change', tell);
    }, []);
    R.openPanel = () => { if (ref.current) ref.current.open = true; };
    if (!folds) return html`<aside class="side" aria-label="Filters"><div class="panel"><${Panel} /></div></aside>`;
    const count = R.filters.value.length;
    return html`<aside class="side" aria-label="Filters"><details ref=${ref} name="fold">
      <summary>Filters${count > 0 && html` <span class="tally-badge">${count}</span>`}</summary>
      <div class="panel"><${Panel} /></div></details></aside>`;
  }
  R.Side = Side;
})(globalThis.R);
