// A program that speaks MCP on its standard streams (the relay), exposed over HTTP: front.mjs REVISION COMMAND ARGUMENT…

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

import { serve } from './http.mjs';

const [revision, command, ...words] = process.argv.slice(2);

function peer(give) {
  const child = spawn(command, words, { stdio: ['pipe', 'pipe', 'inherit'] });
  createInterface({ input: child.stdout }).on('line', (line) => give(JSON.parse(line)));
  child.stdin.on('error', () => {});
  return {
    take: (message) => child.stdin.write(JSON.stringify(message) + '\n'),
    close: () => child.stdin.end(),
  };
}

serve(revision, peer);
