// Notes on images leave the page as CSV, one line an image.
(function (R) {
  'use strict';
  // A cell that a spreadsheet would take for a formula gets an apostrophe before it.
  function cell(value) {
    let text = String(value ?? '');
    if (/^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
  R.notesCsv = () => {
    const run = R.run.value, lines = [['image', 'note', 'outcome', 'said', 'probability', 'true']];
    for (const source of Object.keys(R.notes.value).sort()) {
      const i = R.indexOf(source), said = R.value(`predicted.${run}`, i), truth = R.value(R.truthColumn(run), i);
      const share = R.value(`probability.${run}`, i);
      lines.push([source, R.notes.value[source], R.OUTCOMES[R.outcome(i, run)].word, said === null ? '' : R.label(said),
        share === null ? '' : +share.toPrecision(6), truth === null ? '' : R.label(truth)]);
    }
    return lines.map(line => line.map(cell).join(',') + '\r\n').join('');
  };
  R.saveNotes = () => {
    const link = document.createElement('a');
    // The mark at the start tells Excel that this is UTF-8.
    link.href = URL.createObjectURL(new Blob(['\ufeff', R.notesCsv()], {type: 'text/csv'}));
    link.download = 'notes.csv';
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    R.say(`${R.count(Object.keys(R.notes.value).length, 'note')} saved as notes.csv.`);
  };
})(globalThis.R);
