/** What is missing, in words: the server says it, and the page repeats it where the events would have been. */

const WHY = {
  trimmed: 'the server no longer keeps them',
  slow: 'this page read too slowly',
  unannounced: 'they did not arrive, and nobody said why',
};

/** @param {{epoch: string, from: number, to: number, reason: string}} gap */
export function gapText({ from, to, reason }) {
  if (reason === 'epoch') return 'What was here before is gone: the server has begun a new log, and its numbers with it.';
  const which = from === to ? `Event ${from} is` : `Events ${from}–${to} are`;
  return `${which} missing: ${WHY[reason] ?? reason}.`;
}
