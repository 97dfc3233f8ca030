// What is wrong with how the page looks now, as far as a machine can tell: texts with less contrast than WCAG 2.2 AA asks
// for (1.4.3), what reaches out of the window sideways, and what is too small to hit (2.5.8).

const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const seen = new Map();
/** A computed colour in whatever notation, as `[r, g, b, a]` from 0 to 1. */
function rgba(color) {
  if (!seen.has(color)) {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = color;
    pen.fillRect(0, 0, 1, 1);
    seen.set(color, [...pen.getImageData(0, 0, 1, 1).data].map((part) => part / 255));
  }
  return seen.get(color);
}
const over = ([r, g, b, a], below) => [r, g, b].map((part, i) => part * a + below[i] * (1 - a));
const luminance = (color) => {
  const [r, g, b] = color.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
function ratio(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}
function ancestors(element) {
  const all = [];
  for (let node = element; node; node = node.parentElement) all.unshift(node);
  return all;
}
/** What lies behind an element's text. */
const ground = (element) => ancestors(element).reduce((below, node) => over(rgba(getComputedStyle(node).backgroundColor), below), [1, 1, 1]);

const faults = [];
const shown = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
function judge(element, words, style) {
  const opacity = ancestors(element).reduce((product, node) => product * Number(getComputedStyle(node).opacity), 1);
  const behind = ground(element);
  const [r, g, b, a] = rgba(style.color);
  const has = ratio(over([r, g, b, a * opacity], behind), behind);
  const px = Number.parseFloat(style.fontSize);
  const large = px >= 24 || (px >= 18.66 && Number(style.fontWeight) >= 700);
  if (has < (large ? 3 : 4.5)) faults.push(`contrast ${has.toFixed(2)} of "${words.slice(0, 40)}" in ${element.className || element.localName}`);
  if (px < 11.5) faults.push(`${px} px for "${words.slice(0, 40)}"`);
}

const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const { parentElement: element, data } = texts.currentNode;
  if (!data.trim() || !shown(element) || element.closest(':disabled, template, script')) continue;
  const box = element.getBoundingClientRect();
  if (box.width <= 1 || box.height <= 1) continue; // For a screen reader only.
  judge(element, data.trim(), getComputedStyle(element));
}
for (const field of document.querySelectorAll('input[placeholder]')) {
  if (shown(field) && !field.disabled && !field.value) judge(field, field.placeholder, getComputedStyle(field, '::placeholder'));
}

const wide = document.scrollingElement.scrollWidth;
if (wide > innerWidth) faults.push(`the page is ${wide} px wide in a window of ${innerWidth} px`);
const scrolls = (node) => node !== document.body && node !== document.documentElement && ['auto', 'scroll'].includes(getComputedStyle(node).overflowX);
for (const element of document.body.querySelectorAll('*')) {
  if (!shown(element)) continue;
  const name = `${element.localName}.${element.className}`;
  if (scrolls(element) && element.localName !== 'pre' && element.scrollWidth > element.clientWidth + 1) {
    faults.push(`in ${name} one has to scroll sideways: ${element.scrollWidth} of ${element.clientWidth} px`);
  }
  const scrollers = ancestors(element.parentElement).filter(scrolls);
  const panel = element.closest('.panel');
  const box = element.getBoundingClientRect();
  if (panel && box.width > 1 && !scrollers.some((node) => panel.contains(node)) && box.bottom > panel.getBoundingClientRect().bottom + 1) {
    faults.push(`${name} reaches out of its panel, down to ${box.bottom}`);
  }
  if (scrollers.length) continue;
  if (box.width > 1 && (box.right > innerWidth + 1 || box.left < -1)) faults.push(`${name} reaches from ${box.left} to ${box.right}`);
}
for (const element of document.querySelectorAll('button, input, summary')) {
  const target = element.type === 'radio' ? element.parentElement : element;
  const box = target.getBoundingClientRect();
  const inline = getComputedStyle(target).display === 'inline';
  if (shown(target) && !inline && !element.matches('[type=checkbox]') && Math.min(box.width, box.height) < 24) faults.push(`${element.className || element.id || element.localName} "${element.textContent.trim().slice(0, 20)}" is ${box.width.toFixed(0)} by ${box.height.toFixed(0)} px`);
}
return [...new Set(faults)];
