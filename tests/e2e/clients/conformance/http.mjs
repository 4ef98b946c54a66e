// Streamable HTTP in front of a peer: whatever takes messages with `take(message)` and gives them to `peer.give`.
//
// Legacy (2025-11-25): a session is a peer of its own. Modern (2026-07-28): one peer serves all requests, so that their
// ids and progress tokens are replaced by numbers of this server's own and put back in what comes in return.
// What MCP demands of HTTP itself (hosts, headers, statuses) is done here and nowhere else.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

const META = 'io.modelcontextprotocol/';
const LOCAL = /^(localhost|127\.0\.0\.1|\[::1\])(:\d+)?$/;
const STATUS = { '-32601': 404, '-32020': 400, '-32021': 400, '-32022': 400 };

/** Listens on a free port and prints it. */
export function serve(revision, makePeer) {
  const legacy = revision === '2025-11-25';
  const handler = legacy ? new Legacy(makePeer) : new Modern(revision, makePeer);
  const server = createServer(async (request, response) => {
    try {
      const { host = '', origin } = request.headers;
      if (!LOCAL.test(host) || (origin && !LOCAL.test(origin.replace(/^https?:\/\//, '')))) {
        return json(response, 403, failure(null, -32000, 'not a local host'));
      }
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      const body = Buffer.concat(chunks).toString();
      await handler.handle(request, response, body && JSON.parse(body));
    } catch (error) {
      if (!response.headersSent) json(response, 400, failure(null, -32700, String(error)));
    }
  });
  server.listen(0, '127.0.0.1', () => console.log(server.address().port));
}

export const failure = (id, code, message, data) => ({ jsonrpc: '2.0', id, error: { code, message, data } });

function json(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

/** A response that is a stream of events from its first message on. */
class Stream {
  constructor(response, headers) {
    this.response = response;
    this.headers = headers;
  }
  event(message) {
    this.open();
    this.response.write(`event: message\ndata: ${JSON.stringify(message)}\n\n`);
  }
  open() {
    if (this.response.headersSent) return;
    this.response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache', ...this.headers });
    this.response.flushHeaders();
  }
  /** The last message: by itself it needs no stream, and can have a status. */
  last(message) {
    if (!this.response.headersSent) return json(this.response, STATUS[message.error?.code] ?? 200, message, this.headers);
    this.event(message);
    this.response.end();
  }
}

class Session {
  constructor(id, makePeer) {
    this.id = id;
    this.open = new Map(); // by the request's id: its stream and its progress token
    this.peer = makePeer((message) => this.give(message));
  }
  give(message) {
    const waiting = message.method === undefined && this.open.get(message.id);
    if (waiting) {
      this.open.delete(message.id);
      return waiting.stream.last(message);
    }
    const token = message.params?.progressToken;
    const all = [...this.open.values()];
    const stream = all.find((one) => token !== undefined && one.token === token)?.stream ?? all.at(-1)?.stream;
    (stream ?? this.unasked)?.event(message);
  }
}

class Legacy {
  sessions = new Map();
  constructor(makePeer) {
    this.makePeer = makePeer;
  }
  handle(request, response, message) {
    const named = request.headers['mcp-session-id'];
    let session = this.sessions.get(named);
    if (!session && message?.method === 'initialize' && !named) {
      session = new Session(randomUUID(), this.makePeer);
      this.sessions.set(session.id, session);
    }
    if (!session) return json(response, named ? 404 : 400, failure(message?.id ?? null, -32000, 'no such session'));
    const headers = { 'mcp-session-id': session.id };
    if (request.method === 'DELETE') {
      this.sessions.delete(session.id);
      session.peer.close();
      return json(response, 200, undefined);
    }
    if (request.method === 'GET') {
      session.unasked = new Stream(response, headers);
      return session.unasked.open();
    }
    if (message.method === undefined || message.id === undefined) {
      session.peer.take(message);
      return response.writeHead(202).end();
    }
    const stream = new Stream(response, headers);
    session.open.set(message.id, { stream, token: message.params?._meta?.progressToken });
    session.peer.take(message);
  }
}

class Modern {
  open = new Map(); // by number: the stream, the client's id and token
  last = 0;
  constructor(revision, makePeer) {
    this.revision = revision;
    this.peer = makePeer((message) => this.give(message));
  }
  handle(request, response, message) {
    if (request.method !== 'POST') return json(response, 405, failure(null, -32000, 'only POST'));
    const refusal = this.refusal(request.headers, message);
    if (refusal) return json(response, 400, failure(message.id ?? null, ...refusal));
    if (message.id === undefined) {
      this.peer.take(message);
      return response.writeHead(202).end();
    }
    const number = ++this.last;
    const meta = message.params._meta;
    this.open.set(number, { stream: new Stream(response, {}), id: message.id, token: meta.progressToken, logs: META + 'logLevel' in meta });
    response.on('close', () => {
      const cancelled = { method: 'notifications/cancelled', params: { requestId: number } };
      if (this.open.delete(number)) this.peer.take({ jsonrpc: '2.0', ...cancelled });
    });
    const own = meta.progressToken === undefined ? meta : { ...meta, progressToken: number };
    this.peer.take({ ...message, id: number, params: { ...message.params, _meta: own } });
  }
  refusal(headers, message) {
    const meta = message.params?._meta;
    const version = meta?.[META + 'protocolVersion'];
    if (!version || !meta[META + 'clientCapabilities']) return [-32602, '_meta lacks what is required'];
    if (headers['mcp-protocol-version'] !== version) return [-32020, 'MCP-Protocol-Version is not that of _meta'];
    if (headers['mcp-method'] !== undefined && headers['mcp-method'] !== message.method) return [-32020, 'Mcp-Method is another one'];
    if (version !== this.revision) return [-32022, 'unsupported version', { supported: [this.revision], requested: version }];
  }
  give(message) {
    const one = message.method === undefined && this.open.get(message.id);
    if (one) {
      this.open.delete(message.id);
      return one.stream.last({ ...message, id: one.id });
    }
    const { params = {} } = message;
    const listened = params._meta?.[META + 'subscriptionId'];
    const about = this.open.get(Number(params.progressToken ?? listened));
    if (about && listened !== undefined) {
      const _meta = { ...params._meta, [META + 'subscriptionId']: String(about.id) };
      return about.stream.event({ ...message, params: { ...params, _meta } });
    }
    if (about) return about.stream.event({ ...message, params: { ...params, progressToken: about.token } });
    [...this.open.values()].findLast((open) => open.logs)?.stream.event(message);
  }
}
