// Returns the parts of a page that a screen reader cannot name.
() => {
  const name = (element) => element.getAttribute('aria-label') || element.innerText?.trim() || element.title
    || (element.getAttribute('aria-labelledby') && 'yes') || [...(element.labels ?? [])].map((label) => label.innerText).join('');
  const problems = [];
  for (const element of document.querySelectorAll('a[href], button, input, select, [role=img], [role=region], dialog')) {
    if (!name(element)) problems.push('no name: ' + element.outerHTML.slice(0, 120));
  }
  for (const image of document.querySelectorAll('img:not([alt])')) problems.push('no alt: ' + image.src);
  for (const table of document.querySelectorAll('main table')) if (!table.caption?.textContent) problems.push('no caption');
  for (const head of document.querySelectorAll('main thead th')) if (head.scope !== 'col') problems.push('no scope');
  if (document.querySelectorAll('h1').length !== 1) problems.push('not one h1');
  if (document.querySelectorAll('main, nav, header').length !== 3) problems.push('no landmarks');
  const ids = [...document.querySelectorAll('[id]')].map((element) => element.id);
  if (new Set(ids).size !== ids.length) problems.push('an id twice');
  if (document.querySelector('[tabindex]:not([tabindex="0"]):not([tabindex="-1"])')) problems.push('tabindex');
  return problems;
}
