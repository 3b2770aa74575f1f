import './styles/base.css';
import './styles/composer.css';
import './styles/stage.css';
import './styles/side.css';
import { absentSentence, App, restoredSentence } from './app.js';
import { fetchModels, type Model } from './protocol/http.js';
import { RateMeter } from './protocol/rate-meter.js';
import { StreamSocket, type SocketState } from './protocol/socket.js';
import { Transport } from './protocol/transport.js';
import { keyOf, modelFor } from './state/models.js';
import { modelOfFragment, settingsOfFragment } from './state/settings.js';
import { openHistory, type HistoryEntry, type HistoryStore } from './storage/history.js';
import { Announcer } from './views/announcer.js';
import { Composer } from './views/composer.js';
import { byId } from './views/dom.js';
import { HistoryView } from './views/history.js';
import { fillIcons } from './views/icons.js';
import { LatencyPanel } from './views/latency.js';
import { ConnectionView } from './views/notice.js';

const STREAM_PATH = '/v1/stream';
const RETRY_MODELS_MS = 2000;

fillIcons(document);
const announcer = new Announcer();
const latency = new LatencyPanel();
const store: HistoryStore = await openHistory();
let models: readonly [Model, ...Model[]] | null = null;
let socketState: SocketState = 'idle';

const connection = new ConnectionView(() => { void connect(); });
const socket = new StreamSocket({
  url: `${location.origin.replace(/^http/, 'ws')}${STREAM_PATH}`,
  onState: (state) => {
    socketState = state;
    showConnection();
  },
});
const transport = new Transport(socket, showConnection);
const app = new App({
  transport,
  latency,
  announcer,
  meter: new RateMeter((rate) => { latency.rate(rate); }),
  stage: byId('stage', HTMLElement),
  onFinished: (entries) => { void remember(entries); },
  onChosen: (settings) => {
    composer.show(settings);
    draw();
  },
});

const composer = new Composer(draw);

const historyView = new HistoryView({
  restore: ({ settings, model }) => {
    if (models !== null) {
      const served = modelFor(models, model);
      composer.show({ ...settings, model: keyOf(models, served) });
      if (served.id !== model) announcer.toast(absentSentence(model, served.id));
      else announcer.say(restoredSentence(settings));
    }
    composer.focus();
  },
  clear: () => { void store.clear().then(showHistory); },
});

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && app.cancelNewest()) event.preventDefault();
});
addEventListener('pagehide', (event) => { if (!event.persisted) app.cancelAll(); });
addEventListener('hashchange', showLink);

await Promise.all([connect(), showHistory()]);

function draw(): void {
  const { model } = composer;
  if (model === null) {
    announcer.toast('The server cannot be reached yet');
    return;
  }
  byId('empty', HTMLElement).hidden = true;
  app.draw(composer.take(), model);
}

/** The models first: without an answer to that there is no server to open a socket to. */
async function connect(): Promise<void> {
  try {
    const [first, ...others] = await fetchModels();
    if (first === undefined) throw new Error('no model');
    if (models === null) {
      models = [first, ...others];
      composer.offer(models);
      showLink();
    }
  } catch {
    showConnection();
    setTimeout(() => { if (models === null) void connect(); }, RETRY_MODELS_MS);
    return;
  }
  await transport.connect();
  showConnection();
}

function showConnection(): void {
  connection.show(transport.name, socketState, models !== null || socketState === 'idle');
}

/** A link brings its settings; drawing is one press away and never starts by itself. */
function showLink(): void {
  if (models === null) return;
  const named = modelOfFragment(location.hash);
  const model = modelFor(models, named);
  if (named !== null && model.id !== named) announcer.toast(absentSentence(named, model.id));
  const settings = settingsOfFragment(location.hash, model);
  if (settings === null) {
    if (named !== null) composer.pick(model.id);
    return;
  }
  composer.show({ ...settings, model: keyOf(models, model) });
  composer.focus();
}

async function remember(entries: HistoryEntry[]): Promise<void> {
  for (const entry of entries) await store.add(entry);
  await showHistory();
}

async function showHistory(): Promise<void> {
  const entries = await store.all();
  historyView.show(entries, store.isKept);
  latency.recent(entries.filter(({ isFirst }) => isFirst).map(({ totalMs }) => totalMs).reverse());
}
