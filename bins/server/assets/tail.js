/** Keeps the newest in sight in a box that scrolls, unless its reader scrolled up. */

/** Pixels from the end that still are the end. */
const NEAR = 24;

export class Tail {
  /** Whether the reader is at the end. */
  following = true;
  #box;

  /** @param {HTMLElement} box @param {() => void} [moved] Called after the reader scrolled. */
  constructor(box, moved = () => {}) {
    this.#box = box;
    box.addEventListener('scroll', () => {
      // A box that is not shown has no height, and says nothing about what its reader wants.
      if (!box.clientHeight) return;
      this.following = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR;
      moved();
    }, { passive: true });
    new ResizeObserver(() => this.grown()).observe(box);
  }

  /** Something was added. */
  grown() { if (this.following) this.#box.scrollTop = this.#box.scrollHeight; }

  jump() {
    this.following = true;
    this.grown();
  }
}
