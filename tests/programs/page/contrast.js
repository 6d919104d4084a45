// Returns the texts of a page whose contrast is less than 4.5 to 1 (WCAG 2.1, AA).
() => {
  const parse = (color) => {
    const found = color.match(/[\d.]+/g).map(Number);
    const part = color.startsWith('color(') ? 1 : 1 / 255;
    return [found[0] * part, found[1] * part, found[2] * part, found[3] ?? 1];
  };
  const light = (color) => {
    const [r, g, b] = color.map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = (top, below) => [0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])).concat(1);
  const back = (element) => {
    if (!element) return [1, 1, 1, 1];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, back(element.parentElement));
  };
  const problems = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('svg, option, .u-wrap, noscript, [disabled]') || !element.checkVisibility()) continue;
    const [front, behind] = [parse(getComputedStyle(element).color), back(element)];
    const [high, low] = [light(over(front, behind)), light(behind)].sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) problems.add(ratio.toFixed(2) + ' ' + element.className + ': ' + node.data.slice(0, 40));
  }
  return [...problems];
}
