// The server that the conformance suite wants to meet: fixture.mjs REVISION. Prints its port.
//
// It has the tools, prompts and resources that the suite names for any revision, and speaks one revision only, so that
// what stands before it is shown that era. A tool that needs something of its client answers so in the modern era, and
// asks for it during the call in the legacy one.

import { createHmac, randomUUID } from 'node:crypto';

import { failure, serve } from './http.mjs';

const revision = process.argv[2];
const legacy = revision === '2025-11-25';
const META = 'io.modelcontextprotocol/';
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==';
const WAV = 'UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=';
const info = { name: 'conformance-fixture', version: '1' };

const text = (text) => ({ type: 'text', text });
const image = { type: 'image', data: PNG, mimeType: 'image/png' };
const resource = (uri, mimeType, text) => ({ type: 'resource', resource: { uri, mimeType, text } });
const said = (...content) => ({ content });
const pause = () => new Promise((done) => setTimeout(done, 20));

const form = (message, properties, required = Object.keys(properties)) => ({
  method: 'elicitation/create',
  params: { ...(legacy ? {} : { mode: 'form' }), message, requestedSchema: { type: 'object', properties, required } },
});
const field = (name) => ({ [name]: { type: 'string' } });
const sampling = (prompt) => ({
  method: 'sampling/createMessage',
  params: { messages: [{ role: 'user', content: text(prompt) }], maxTokens: 100 },
});
const roots = { method: 'roots/list', params: {} };
const inputFrom = (answer, name) => answer?.content?.[name];

const key = randomUUID();
const seal = (state) => {
  const data = JSON.stringify(state);
  return JSON.stringify({ data, seal: createHmac('sha256', key).update(data).digest('hex') });
};
const unseal = (sealed) => {
  try {
    const { data, seal: found } = JSON.parse(sealed);
    return found === createHmac('sha256', key).update(data).digest('hex') ? JSON.parse(data) : undefined;
  } catch {
    return undefined;
  }
};
class Wrong extends Error {
  constructor(code, message, data) {
    super(message);
    Object.assign(this, { code, data });
  }
}
const needs = (inputRequests, requestState) => ({ resultType: 'input_required', inputRequests, ...(requestState ? { requestState } : {}) });

/** Asks for everything in `asked` until all of it is answered; then `done` has the answers. */
const asking = (asked, done, state) => ({ params }) => {
  const { inputResponses = {}, requestState } = params;
  if (state && requestState !== undefined && !unseal(requestState)) throw new Wrong(-32602, 'requestState is not ours');
  const isWhole = Object.keys(asked).every((name) => isAnswer(asked[name], inputResponses[name]));
  return isWhole && (!state || requestState) ? done(inputResponses) : needs(asked, state && seal({ state, nonce: randomUUID() }));
};
/** The same tool in the legacy era: what it needs is asked of the client, until it needs nothing. */
async function driven(tool, context) {
  let { params } = context;
  for (;;) {
    const result = await tool({ ...context, params });
    if (!legacy || result.resultType !== 'input_required') return result;
    const inputResponses = {};
    for (const [name, question] of Object.entries(result.inputRequests)) inputResponses[name] = await context.ask(question);
    params = { ...params, inputResponses, requestState: result.requestState };
  }
}
function isAnswer(request, answer) {
  if (request.method !== 'elicitation/create') return answer !== undefined;
  const wanted = request.params.requestedSchema;
  const content = answer?.content ?? {};
  return answer?.action === 'accept' && wanted.required.every((name) => typeof content[name] === wanted.properties[name].type);
}

const always = {
  test_simple_text: () => said(text('This is a simple text response for testing.')),
  test_image_content: () => said(image),
  test_audio_content: () => said({ type: 'audio', data: WAV, mimeType: 'audio/wav' }),
  test_embedded_resource: () => said(resource('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')),
  test_multiple_content_types: () => said(text('Multiple content types test:'), image, resource('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}')),
  test_error_handling: () => ({ ...said(text('This tool intentionally returns an error for testing')), isError: true }),
  async test_tool_with_progress({ params, notify }) {
    const progressToken = params._meta?.progressToken ?? 0;
    for (const progress of [0, 50, 100]) {
      notify('notifications/progress', { progressToken, progress, total: 100, message: `${progress} of 100` });
      await pause();
    }
    return said(text('done'));
  },
  test_trigger_tool_change({ peer }) {
    peer.extra.tools.push(`test_grown_tool_${peer.extra.tools.length}`);
    peer.changed('tools');
    return said(text('one more tool'));
  },
  test_trigger_prompt_change({ peer }) {
    peer.extra.prompts.push(`test_grown_prompt_${peer.extra.prompts.length}`);
    peer.changed('prompts');
    return said(text('one more prompt'));
  },
};

const plain = ['option1', 'option2', 'option3'];
const titled = [1, 2, 3].map((n) => ({ const: `value${n}`, title: `Option ${n}` }));
const many = { type: 'array', minItems: 1, maxItems: 3 };
const told = (what) => ({ answer }) => said(text(`${what}: action=${answer.action}, content=${JSON.stringify(answer.content ?? {})}`));

Object.assign(always, {
  async test_tool_with_logging({ params, notify }) {
    const isWanted = legacy || params._meta[META + 'logLevel'];
    for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      if (isWanted) notify('notifications/message', { level: 'info', data });
      await pause();
    }
    return said(text('Tool with logging executed successfully'));
  },
  test_sampling: ({ params }) =>
    asking({ answer: sampling(params.arguments.prompt) }, ({ answer }) => said(text(`LLM response: ${answer.content.text}`)))({ params }),
  test_elicitation: ({ params }) => asking({ answer: form(params.arguments.message, field('response'), []) }, told('User response'))({ params }),
  test_elicitation_sep1034_defaults: asking({ answer: form('Please review the defaults', {
    name: { type: 'string', description: 'User name', default: 'John Doe' },
    age: { type: 'integer', description: 'User age', default: 30 },
    score: { type: 'number', description: 'User score', default: 95.5 },
    status: { type: 'string', description: 'User status', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', description: 'Verification status', default: true },
  }, []) }, told('Elicitation completed')),
  test_elicitation_sep1330_enums: asking({ answer: form('Please select', {
    untitledSingle: { type: 'string', enum: plain },
    titledSingle: { type: 'string', oneOf: titled },
    legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['Option One', 'Option Two', 'Option Three'] },
    untitledMulti: { ...many, items: { type: 'string', enum: plain } },
    titledMulti: { ...many, items: { anyOf: titled } },
  }, []) }, told('Elicitation completed')),
});

const confirm = { confirm: form('Please confirm', { ok: { type: 'boolean' } }) };
Object.assign(always, {
  test_missing_capability({ capabilities }) {
    if (!capabilities.sampling) throw new Wrong(-32021, 'sampling is required', { requiredCapabilities: { sampling: {} } });
    return said(text('Success'));
  },
  test_input_required_result_elicitation: asking({ user_name: form('What is your name?', field('name')) }, (all) =>
    said(text(`Hello, ${inputFrom(all.user_name, 'name')}!`))),
  test_input_required_result_sampling: asking({ sample_request: sampling('What is the capital of France?') }, (all) =>
    said(text(`Sampling result: ${all.sample_request.content?.text}`))),
  test_input_required_result_list_roots: asking({ roots_request: roots }, (all) =>
    said(text(`Found ${all.roots_request.roots?.length} root(s)`))),
  test_input_required_result_request_state: asking(confirm, () => said(text('state-ok: requestState validated')), 'request-state'),
  test_input_required_result_tampered_state: asking(confirm, () => said(text('integrity-ok: state verified')), 'tampered'),
  test_input_required_result_multiple_inputs: asking(
    { user_name: form('What is your name?', field('name')), greeting: sampling('Generate a greeting'), client_roots: roots },
    (all) => said(text(`Name: ${inputFrom(all.user_name, 'name')}; Greeting: ${all.greeting.content?.text}; Roots: ${all.client_roots.roots?.length}`)),
    'multiple',
  ),
  test_input_required_result_multi_round({ params }) {
    const state = params.requestState === undefined ? { round: 0 } : unseal(params.requestState);
    if (!state) throw new Wrong(-32602, 'requestState is not ours');
    const { step1, step2 } = params.inputResponses ?? {};
    if (state.round === 1 && step1) {
      const next = { round: 2, name: inputFrom(step1, 'name'), nonce: randomUUID() };
      return needs({ step2: form('Step 2: What is your favorite color?', field('color')) }, seal(next));
    }
    if (state.round === 2 && step2) return said(text(`${state.name} likes ${inputFrom(step2, 'color')}`));
    return needs({ step1: form('Step 1: What is your name?', field('name')) }, seal({ round: 1, nonce: randomUUID() }));
  },
  test_input_required_result_capabilities({ params, capabilities }) {
    const answered = Object.keys(params.inputResponses ?? {});
    if (answered.length > 0) return said(text(`capabilities-ok: received ${answered}`));
    const possible = {
      ...(capabilities.elicitation ? { elicit_input: form('Elicitation input', field('value')) } : {}),
      ...(capabilities.sampling ? { sample_input: sampling('Sample request') } : {}),
    };
    return Object.keys(possible).length > 0 ? needs(possible, seal({ nonce: randomUUID() })) : said(text('none declared'));
  },
  async test_streaming_elicitation({ params, notify }) {
    const progressToken = params._meta?.progressToken;
    if (progressToken !== undefined) notify('notifications/progress', { progressToken, progress: 50, total: 100 });
    return said(text('Streaming complete'));
  },
  test_logging_tool({ params, notify }) {
    if (legacy || params._meta[META + 'logLevel']) notify('notifications/message', { level: 'info', data: 'evaluated' });
    return said(text('Logging evaluated'));
  },
});

// A schema with the whole vocabulary of JSON Schema 2020-12, which must arrive as it is.
const wholeSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: { address: { $anchor: 'addressDef', type: 'object', properties: { street: { type: 'string' }, city: { type: 'string' } } } },
  properties: {
    ...field('name'), ...field('phone'), ...field('email'),
    address: { $ref: '#/$defs/address' },
    contactMethod: { type: 'string', enum: ['phone', 'email'] },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
};
always.json_schema_2020_12_tool = ({ params }) => said(text(JSON.stringify(params.arguments ?? {})));

const tools = always;
const inputs = { test_sampling: field('prompt'), test_elicitation: field('message') };

const message = (content) => ({ role: 'user', content });
const prompts = {
  test_simple_prompt: { get: () => [message(text('This is a simple prompt for testing.'))] },
  test_prompt_with_arguments: {
    arguments: ['arg1', 'arg2'],
    get: ({ arg1, arg2 }) => [message(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))],
  },
  test_prompt_with_embedded_resource: {
    arguments: ['resourceUri'],
    get: ({ resourceUri }) => [message(resource(resourceUri, 'text/plain', 'Embedded resource content.')), message(text('Please process it.'))],
  },
  test_prompt_with_image: { get: () => [message(image), message(text('Please analyze the image above.'))] },
};
{
  const context = { user_context: form('What context should the prompt use?', field('context')) };
  prompts.test_input_required_result_prompt = {
    answer: asking(context, (all) => ({ messages: [message(text(`Prompt with context: ${inputFrom(all.user_context, 'context')}`))] })),
  };
}

const resources = {
  'test://static-text': { mimeType: 'text/plain', text: 'This is the content of the static text resource.' },
  'test://static-binary': { mimeType: 'image/png', blob: PNG },
  'test://watched-resource': { mimeType: 'text/plain', text: 'Watched resource content' },
};
function read(uri) {
  const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1];
  const found = id ? { mimeType: 'application/json', text: JSON.stringify({ id, templateTest: true, data: `Data for ID: ${id}` }) } : resources[uri];
  if (!found) throw new Wrong(legacy ? -32002 : -32602, 'no such resource', { uri });
  return { contents: [{ uri, ...found }] };
}

const capabilities = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: legacy ? { subscribe: true } : {},
  completions: {},
  ...(legacy ? { logging: {} } : {}),
};
const CACHED = ['server/discover', 'tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'resources/read'];

class Peer {
  extra = { tools: [], prompts: [] };
  listens = new Map(); // by the listen request's id: its filter
  asked = new Map();
  last = 0;
  constructor(give) {
    this.give = give;
  }
  close() {}
  async take(message) {
    if (message.method === undefined) return this.asked.get(message.id)?.(message.result ?? {});
    if (message.id === undefined) return this.listens.delete(message.params?.requestId);
    try {
      const result = await this.answer(message);
      if (result) this.give({ jsonrpc: '2.0', id: message.id, result: legacy ? result : this.stamped(message.method, result) });
    } catch (error) {
      this.give(failure(message.id, error.code ?? -32603, error.message, error.data));
    }
  }
  stamped(method, result) {
    const cached = CACHED.includes(method) ? { ttlMs: 300000, cacheScope: method === 'resources/read' ? 'private' : 'public' } : {};
    return { resultType: 'complete', ...cached, ...result };
  }
  answer({ id, method, params = {} }) {
    const context = {
      params,
      peer: this,
      capabilities: params._meta?.[META + 'clientCapabilities'] ?? this.capabilities ?? {},
      notify: (method, params) => this.give({ jsonrpc: '2.0', method, params }),
      ask: (question) => new Promise((done) => {
        const id = `question-${++this.last}`;
        this.asked.set(id, done);
        this.give({ jsonrpc: '2.0', id, ...question });
      }),
    };
    const own = legacy ? this.legacy(method, params) : this.modern(id, method, params);
    if (own !== undefined) return own;
    switch (method) {
      case 'tools/list':
        return { tools: [...Object.keys(tools), ...this.extra.tools].map((name) => ({ name, description: `The tool ${name}`, inputSchema: name.startsWith('json_schema') ? wholeSchema : { type: 'object', properties: inputs[name] ?? {} } })) };
      case 'tools/call':
        if (!tools[params.name]) throw new Wrong(-32602, `no tool ${params.name}`);
        return driven(tools[params.name], context);
      case 'prompts/list':
        return { prompts: [...Object.keys(prompts), ...this.extra.prompts].map((name) => ({ name, description: `The prompt ${name}`, arguments: prompts[name]?.arguments?.map((name) => ({ name, description: name, required: true })) })) };
      case 'prompts/get': {
        const prompt = prompts[params.name];
        if (!prompt) throw new Wrong(-32602, `no prompt ${params.name}`);
        return prompt.answer ? driven(prompt.answer, context) : { messages: prompt.get(params.arguments ?? {}) };
      }
      case 'resources/list':
        return { resources: Object.entries(resources).map(([uri, { mimeType }]) => ({ uri, name: uri.slice(7), description: uri, mimeType })) };
      case 'resources/templates/list':
        return { resourceTemplates: [{ uriTemplate: 'test://template/{id}/data', name: 'template', description: 'by id', mimeType: 'application/json' }] };
      case 'resources/read':
        return read(params.uri);
      case 'completion/complete':
        return { completion: { values: [], total: 0, hasMore: false } };
    }
    throw new Wrong(-32601, `no method ${method}`);
  }
  legacy(method, params) {
    if (method === 'initialize') this.capabilities = params.capabilities;
    if (method === 'initialize') return { protocolVersion: revision, capabilities, serverInfo: info };
    if (['ping', 'logging/setLevel', 'resources/subscribe', 'resources/unsubscribe'].includes(method)) return {};
  }
  modern(id, method, params) {
    if (method === 'server/discover') return { supportedVersions: [revision], capabilities, _meta: { [META + 'serverInfo']: info } };
    if (method === 'subscriptions/listen') {
      const { toolsListChanged, promptsListChanged } = params.notifications ?? {};
      this.listens.set(id, { toolsListChanged, promptsListChanged });
      this.tell(id, 'notifications/subscriptions/acknowledged', { notifications: { toolsListChanged, promptsListChanged } });
      return null;
    }
  }
  changed(kind) {
    const method = `notifications/${kind}/list_changed`;
    if (legacy) return this.give({ jsonrpc: '2.0', method });
    for (const [id, filter] of this.listens) if (filter[`${kind}ListChanged`]) this.tell(id, method, {});
  }
  tell(id, method, params) {
    this.give({ jsonrpc: '2.0', method, params: { _meta: { [META + 'subscriptionId']: id }, ...params } });
  }
}

serve(revision, (give) => new Peer(give));
