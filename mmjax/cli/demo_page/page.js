'use strict';

// What is shown: tabs of what the models can do, the files and the texts.
const $ = (id) => document.getElementById(id);
const state = { models: [], tabs: [], tab: null, files: [] };
const FILE_KINDS = ['image', 'sound', 'video'];

function element(name, text = '', properties = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  return Object.assign(made, properties);
}

function capitalise(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Forms of several models that ask for the same are one tab.
function nameTab(form) {
  if (form.text === 'question') return 'Ask';
  if (form.text === 'text' && form.inputs.length) return 'Rank texts';
  return capitalise(form.ability);
}

function makeTabs(models) {
  const tabs = new Map();
  const add = (name, model, form) => {
    if (!tabs.has(name)) tabs.set(name, { name, members: [], isSearch: !form });
    tabs.get(name).members.push({ model, form });
  };
  for (const model of models) if (model.searches) add('Search', model, null);
  for (const model of models) {
    for (const form of model.forms) add(nameTab(form), model, form);
  }
  return [...tabs.values()];
}

function listInputs(tab) {
  if (tab.isSearch) return [{ name: 'image', kind: 'image' }];
  const inputs = new Map();
  for (const { form } of tab.members) {
    for (const input of form.inputs) inputs.set(input.name, input);
  }
  return [...inputs.values()];
}

function chooseTab(tab) {
  state.tab = tab;
  for (const button of $('tabs').children) {
    button.setAttribute('aria-selected', button.textContent === tab.name);
  }
  const inputs = listInputs(tab);
  const kinds = inputs.map((input) => input.kind).filter((kind) => FILE_KINDS.includes(kind));
  const wanted = tab.isSearch ? 'images' : kinds.map((kind) => (kind === 'image' ? 'an image' : `a ${kind}`)).join(' and ');
  $('drop').hidden = !kinds.length;
  $('drop-text').textContent = `Drop ${wanted} here, or click to choose`;
  $('files').multiple = tab.isSearch || kinds.length > 1;
  $('files').accept = kinds.map((kind) => ({ image: 'image/*', sound: 'audio/*', video: 'video/*,image/*' })[kind]).join(',');
  if (!$('files').multiple) state.files.splice(1);
  $('fields').replaceChildren(
    ...inputs.filter((input) => !FILE_KINDS.includes(input.kind)).map((input) => {
      const label = element('label', input.name);
      label.append(element('input', '', { type: 'text', name: input.name }));
      return label;
    }),
  );
  const text = tab.isSearch ? 'query' : tab.members[0].form.text;
  $('text').hidden = $('text-label').hidden = !text;
  const several = text === 'text' && inputs.length;
  $('text').rows = several ? 4 : 2;
  $('text-label').textContent = { query: 'Look for', question: 'Question' }[text] ?? (several ? 'Texts, one in each line' : 'Text');
  $('run').textContent = tab.name;
  $('status').textContent = '';
  $('results').replaceChildren();
  showFiles();
}

function addFiles(files) {
  if (!$('files').multiple) state.files = [];
  state.files.push(...files);
  if (!$('files').multiple) state.files.splice(1);
  showFiles();
}

function showFiles() {
  $('chosen').hidden = $('drop').hidden;
  $('chosen').replaceChildren(...state.files.map((file, i) => {
    const item = element('li');
    if (file.type.startsWith('image/')) {
      item.append(element('img', '', { src: URL.createObjectURL(file), alt: file.name }));
    } else {
      item.append(element('span', file.name));
    }
    const remove = element('button', '×', { type: 'button' });
    remove.setAttribute('aria-label', `Remove ${file.name}`);
    remove.addEventListener('click', () => {
      state.files.splice(i, 1);
      showFiles();
    });
    item.append(remove);
    return item;
  }));
}

async function encode(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = '';
  for (let i = 0; i < bytes.length; i += 32768) {
    text += String.fromCharCode(...bytes.subarray(i, i + 32768));
  }
  return { name: file.name, content: btoa(text) };
}

async function send(address, asked) {
  const response = await fetch(address, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(asked),
  });
  if (response.status === 500) throw new Error('it failed; the terminal has the error');
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

// Files go to the inputs of their kinds, in order.
async function collectInputs(form) {
  const inputs = {};
  const left = [...state.files];
  for (const { name, kind } of form.inputs) {
    if (FILE_KINDS.includes(kind)) {
      const prefix = kind === 'sound' ? 'audio/' : `${kind}/`;
      const i = left.findIndex((file) => file.type.startsWith(prefix) || !file.type || kind === 'video');
      if (i >= 0) inputs[name] = await encode(left.splice(i, 1)[0]);
    } else {
      const value = $('fields').querySelector(`[name="${CSS.escape(name)}"]`).value.trim();
      if (value) inputs[name] = value;
    }
  }
  return inputs;
}

// Lines that begin with a header of numbers are a table.
function showLines(lines) {
  const header = lines.length > 1 ? lines[0].trim().split(/\s{2,}/) : [];
  if (header.length < 2) return lines.map((line) => element('p', line));
  const table = element('table');
  const columns = header.length;
  const row = (cells, name) => {
    const made = element('tr');
    cells.forEach((cell, i) => made.append(element(name, cell, { className: i < columns - 1 ? 'number' : '' })));
    return made;
  };
  table.append(row(header, 'th'));
  for (const line of lines.slice(1)) {
    const cells = line.trim().match(new RegExp(`^${'(\\S+)\\s+'.repeat(columns - 1)}(.*)$`));
    if (!cells) {
      table.append(row([line], 'td'));
      continue;
    }
    const made = row(cells.slice(1), 'td');
    const percent = cells.slice(1).find((cell) => cell.endsWith('%'));
    if (percent) made.lastChild.append(element('meter', '', { value: parseFloat(percent) / 100 }));
    table.append(made);
  }
  return [table];
}

function showFound(found, files) {
  const list = element('ul', '', { className: 'found' });
  for (const [i, cosine] of found) {
    const item = element('li');
    item.append(
      element('img', '', { src: URL.createObjectURL(files[i]), alt: files[i].name }),
      element('b', cosine.toFixed(3)),
      document.createTextNode(` ${files[i].name}`),
    );
    list.append(item);
  }
  return [list];
}

function showDrawings(drawings) {
  if (!drawings.length) return [];
  const list = element('ul', '', { className: 'found' });
  for (const { image, lines } of drawings) {
    const item = element('li');
    if (image) item.append(element('img', '', { src: image, alt: lines.join(', ') }));
    item.append(...lines.map((line) => element('p', line)));
    list.append(item);
  }
  return [list];
}

async function ask({ model, form }, panel) {
  try {
    if (!form) {
      const files = state.files.filter((file) => file.type.startsWith('image/'));
      const images = await Promise.all(files.map(encode));
      const answer = await send('search', { model: model.name, query: $('text').value, images });
      panel.append(...showFound(answer.found, files));
    } else {
      const text = $('text').value;
      const several = form.text === 'text' && form.inputs.length;
      const texts = !form.text ? [] : several ? text.split('\n') : [text];
      const inputs = await collectInputs(form);
      const answer = await send('answer', { model: model.name, task: form.task, inputs, texts });
      panel.append(...showLines(answer.lines), ...showDrawings(answer.drawings));
      const reads = form.inputs.some((input) => FILE_KINDS.includes(input.kind));
      if (state.files.length && !reads) panel.append(element('p', 'It reads no files.', { className: 'note' }));
    }
  } catch (error) {
    panel.append(element('p', error.message, { className: 'error' }));
  }
}

async function run() {
  $('run').disabled = true;
  $('status').textContent = 'Running; the first time takes longer …';
  $('results').replaceChildren();
  const { members } = state.tab;
  for (const member of members) {
    const panel = element('div', '', { className: 'result' });
    const isAlone = members.filter((other) => other.model === member.model).length === 1;
    panel.append(element('h2', isAlone ? member.model.name : `${member.model.name}: ${member.form.task}`));
    $('results').append(panel);
    await ask(member, panel);
  }
  $('status').textContent = '';
  $('run').disabled = false;
  $('results').scrollIntoView({ block: 'nearest' });
}

function listen() {
  $('files').addEventListener('change', () => {
    addFiles($('files').files);
    $('files').value = '';
  });
  const drop = $('drop');
  // The whole page takes files, so that a miss doesn't open one instead.
  for (const name of ['dragover', 'dragleave', 'drop']) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.toggle('over', name === 'dragover');
      if (name === 'drop' && !drop.hidden) addFiles(event.dataTransfer.files);
    });
  }
  $('form').addEventListener('submit', (event) => {
    event.preventDefault();
    run();
  });
}

async function start() {
  listen();
  state.models = await (await fetch('models')).json();
  $('models').replaceChildren(...state.models.map((model) => element('li', model.title)));
  state.tabs = makeTabs(state.models);
  for (const tab of state.tabs) {
    const button = element('button', tab.name, { type: 'button' });
    button.setAttribute('role', 'tab');
    button.addEventListener('click', () => chooseTab(tab));
    $('tabs').append(button);
  }
  chooseTab(state.tabs[0]);
}

start();
