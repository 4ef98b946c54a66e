// Calls all of Fiedler's tools with the official TypeScript SDK: fiedler.mjs URL SDK FOLDER
//
// URL and SDK as in session.mjs; FOLDER is one for answers, which exists. The model gpt-5 must hang, and all others answer. Ends with 0 and a
// line of JSON, or with the first thing that is not as it must be.

import assert from 'node:assert/strict';

import { call, called, client, refused, tools } from './session.mjs';

const output = process.argv[4];
const key = 'sk-test-typescript-0008';

assert.equal(tools.length, 8);

const reports = [];
const onprogress = (report) => reports.push(report);
const asked = { prompt: 'Why is the sky blue?', models: ['gpt-4o', 'gemini', 'grok'] };
const sent = await call('fiedler_send', asked, { onprogress });
assert.equal(sent.status, 'success');
assert.deepEqual(sent.results.map((result) => result.model), ['gpt-4o', 'gemini-2.5-pro', 'grok-4-0709']);
for (const result of sent.results) assert.deepEqual(result.tokens, { prompt: 11, completion: 7 });
assert.ok(reports.some((report) => report.message.includes('(3 of 3)')), JSON.stringify(reports));
assert.ok(reports.every((report, at) => at === 0 || report.progress > reports[at - 1].progress));
await refused('fiedler_send', { prompt: '' }, ['`prompt`']);
await refused('fiedler_send', { prompt: 'x', models: ['gpt4o'] }, ['did you mean `gpt-4o`']);

const stop = new AbortController();
const hanging = client.callTool(
  { name: 'fiedler_send', arguments: { prompt: 'x', models: ['gpt-5'] } }, undefined,
  { signal: stop.signal, onprogress: ({ message }) => message.includes('bytes') && stop.abort('enough') },
);
await assert.rejects(hanging, /enough/);

const { models } = await call('fiedler_list_models', {});
assert.equal(models.length, 10);
assert.deepEqual((await call('fiedler_set_models', { models: ['4o'] })).models, ['gpt-4o']);
await call('fiedler_set_output', { output_dir: output });
const config = await call('fiedler_get_config', {});
assert.deepEqual([config.models, config.output_dir], [['gpt-4o'], output]);
const again = await call('fiedler_send', { prompt: 'And at night?' });
assert.deepEqual(again.results.map((result) => result.model), ['gpt-4o']);
assert.ok(again.output_dir.startsWith(output));

await call('fiedler_set_key', { provider: 'xai', api_key: key });
assert.ok((await call('fiedler_list_keys', {})).providers.includes('xai'));
await refused('fiedler_set_key', { provider: 'xai', api_key: `${key} x` }, ['`api_key`']);
assert.equal((await call('fiedler_delete_key', { provider: 'xai' })).deleted, true);

assert.deepEqual([...called].sort(), tools.map((tool) => tool.name).sort());
await client.close();
console.log(JSON.stringify({ tools: called.size, reports: reports.length }));
