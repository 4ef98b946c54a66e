// How the test clients in TypeScript's SDK reach a server: `URL FOLDER` on the command line. URL is ws://… or http://…; FOLDER holds
// the official SDK in node_modules.

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
