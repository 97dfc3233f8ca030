/** A task's output: lines as they come, the newest in sight unless the reader scrolled up, a bounded number of them. */

import { plain } from './dom.js';
import { Tail } from './tail.js';

/** Lines kept in the page. */
export const LINES_MAX = 2_000;
/** Characters shown of one line. */
const LINE_MAX = 4_000;
/** What comes faster than this is shown together. */
const FLUSH_MS = 50;

export class LogView {
  #lines;
  #partial;
  #cut;
  #newest;
  #empty;
  #waiting = [];
  #timer = 0;
  #dropped = 0;
  #unseen = 0;
  #tail;

  /** @param {{box: HTMLElement, lines: HTMLElement, partial: HTMLElement, cut: HTMLElement, newest: HTMLElement, empty: HTMLElement}} parts */
  constructor({ box, lines, partial, cut, newest, empty }) {
    this.#lines = lines;
    this.#partial = partial;
    this.#cut = cut;
    this.#newest = newest;
    this.#empty = empty;
    this.#tail = new Tail(box, () => this.#mark());
  }

  /** @param {{stream?: string, text: string}[]} lines */
  add(lines) {
    for (const line of lines) this.#waiting.push(line);
    const over = this.#waiting.length - LINES_MAX;
    if (over > 0) {
      this.#waiting.splice(0, over);
      this.#dropped += over;
    }
    this.#later();
  }

  /** The line that has not ended yet; null takes it away. @param {{stream?: string, text: string}|null} line */
  setPartial(line) {
    this.#partial.hidden = !line;
    this.#partial.textContent = line ? textOf(line) : '';
    this.#later();
  }

  /** A remark among the lines, such as what is missing. */
  note(text) { this.add([{ stream: 'note', text }]); }

  jump() {
    this.#tail.jump();
    this.#mark();
  }

  #later() { this.#timer ||= setTimeout(() => this.#flush(), FLUSH_MS); }

  #flush() {
    this.#timer = 0;
    const fragment = document.createDocumentFragment();
    const added = this.#waiting.splice(0);
    for (const line of added) {
      const row = document.createElement('p');
      const stream = line?.stream;
      if (stream === 'stderr' || stream === 'note') row.className = stream;
      row.textContent = textOf(line);
      fragment.append(row);
    }
    this.#lines.append(fragment);
    const over = this.#lines.childElementCount - LINES_MAX;
    for (let i = 0; i < over; i += 1) this.#lines.firstElementChild.remove();
    this.#dropped += Math.max(0, over);
    this.#cut.hidden = this.#dropped === 0;
    this.#cut.textContent = `${this.#dropped.toLocaleString('en')} earlier lines are not kept in this page.`;
    this.#empty.hidden = this.#lines.childElementCount > 0 || !this.#partial.hidden;
    this.#unseen += added.length;
    this.#tail.grown();
    this.#mark();
  }

  #mark() {
    if (this.#tail.following) this.#unseen = 0;
    this.#newest.hidden = this.#tail.following;
    this.#newest.textContent = this.#unseen ? `Jump to newest (${this.#unseen} more)` : 'Jump to newest';
  }
}

function textOf(line) {
  const text = plain(typeof line === 'string' ? line : line?.text ?? '');
  return text.length > LINE_MAX ? `${text.slice(0, LINE_MAX)}…` : text || '\u200b';
}
