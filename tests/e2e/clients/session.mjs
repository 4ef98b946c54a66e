// How the test clients in TypeScript's SDK reach a server and call its tools: `URL FOLDER` on the command line. URL is ws://… or http://…; FOLDER holds
// the official SDK in node_modules.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export const [url, folder] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), 'node_modules', 'x'));
const load = (name) => import(pathToFileURL(require.resolve(name)));

const { Client } = await load('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = await load('@modelcontextprotocol/sdk/client/streamableHttp.js');
const { WebSocketClientTransport } = await load('@modelcontextprotocol/sdk/client/websocket.js');
// Node.js has it of its own from version 22 on.
globalThis.WebSocket = require('ws');

const transport = url.startsWith('ws')
  ? new WebSocketClientTransport(new URL(url))
  : new StreamableHTTPClientTransport(new URL(url));
export const client = new Client({ name: 'e2e-typescript', version: '1' });
await client.connect(transport);

export const { tools } = await client.listTools();
for (const tool of tools) {
  assert.equal(tool.inputSchema.type, 'object');
  assert.ok(tool.outputSchema && tool.annotations, tool.name);
}

export const called = new Set();
// The SDK checks each result against the tool's output schema.
export const call = async (name, args, options) => {
  called.add(name);
  const result = await client.callTool({ name, arguments: args }, undefined, options);
  const text = result.content[0].text;
  if (result.isError) throw new Error(text);
  const parsed = JSON.parse(text);
  // Structured content is always an object: one of nulls stands for null.
  if (parsed === null) assert.ok(Object.values(result.structuredContent).every((value) => value === null), text);
  else assert.deepEqual(parsed, result.structuredContent);
  return parsed;
};
export const refused = async (name, args, words) => {
  const result = await client.callTool({ name, arguments: args });
  assert.equal(result.isError, true, `${name} took ${JSON.stringify(args).slice(0, 100)}`);
  for (const word of words) assert.ok(result.content[0].text.includes(word), result.content[0].text);
};
