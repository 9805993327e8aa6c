for (const box of document.querySelectorAll('.box.big')) {
  const table = box.querySelector('table'), body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  const input = document.createElement('input');
  input.className = 'filter'; input.type = 'search'; input.placeholder = 'filter, e.g. HRNet posepost blocking';
  input.setAttribute('aria-label', 'Filter the rows');
  input.oninput = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    }
  };
  box.before(input);
  heads.forEach((head, i) => {
    const sort = () => {
      const up = head.getAttribute('aria-sort') !== 'ascending', sign = up ? 1 : -1;
      heads.forEach(other => other.setAttribute('aria-sort', 'none'));
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const text = row => row.cells[i].textContent;
      const number = row => isNaN(parseFloat(text(row))) ? sign * Infinity : parseFloat(text(row));
      const numeric = head.classList.contains('n');
      const order = (a, b) => !numeric ? text(a).localeCompare(text(b))
        : (number(a) > number(b)) - (number(a) < number(b));
      body.append(...[...body.rows].sort((a, b) => sign * order(a, b)));
    };
    head.setAttribute('aria-sort', 'none'); head.tabIndex = 0; head.onclick = sort;
    head.onkeydown = event => { if (event.key === 'Enter') sort(); };
  });
}
