// Calls all of Dewey's tools with the official TypeScript SDK: dewey.mjs URL FOLDER
//
// URL is ws://… or http://…; FOLDER holds the SDK in node_modules. An import folder of the server must hold `messages.jsonl`
// with two messages. Ends with 0 and a line of JSON, or with the first thing that is not as it must be.

import assert from 'node:assert/strict';

import { call, called, client, refused, tools, url } from './session.mjs';

assert.equal(tools.length, 11);
assert.equal(tools.find((tool) => tool.name === 'dewey_search').annotations.readOnlyHint, true);
assert.equal(tools.find((tool) => tool.name === 'dewey_delete_conversation').annotations.destructiveHint, true);

const begun = await call('dewey_begin_conversation', { session_id: 'typescript', metadata: { title: 'From TypeScript' } });
assert.equal(begun.session_id, 'typescript');
const id = begun.conversation_id;
const first = await call('dewey_store_message', { conversation_id: id, role: 'user', content: 'Where is the zeppelin? 🎈' });
assert.equal(first.turn_number, 1);
const blocks = [{ type: 'text', text: 'In the hangar.' }, { type: 'tool_use', id: 't', name: 'look', input: { at: 'hangar' } }];
const second = await call('dewey_store_message', {
  conversation_id: id, role: 'assistant', content: blocks, turn_number: 2, metadata: { model: 'm' },
});
assert.equal(second.turn_number, 2);
await refused('dewey_store_message', { conversation_id: id, role: 'user', content: 'x', turn_number: 7 }, ['7', '3']);
await refused('dewey_store_message', { conversation_id: id, role: 'root', content: 'x' }, ['`role`', 'user']);
await refused('dewey_store_message', { conversation_id: id, content: 'x' }, ['`role`']);

let reports = 0;
const many = Array.from({ length: 1200 }, (_, n) => ({ role: n % 2 ? 'assistant' : 'user', content: `bulk ${n}` }));
const stored = await call(
  'dewey_store_messages_bulk', { messages: many, conversation_id: id }, { onprogress: () => { reports += 1; } },
);
assert.equal(stored.stored, 1200);
assert.equal(stored.message_ids.length, 1200);
assert.ok(reports > 0, 'no progress was reported');
const imported = await call('dewey_store_messages_bulk', { messages_file: 'messages.jsonl', session_id: 'typescript' });
assert.equal(imported.stored, 2);
await refused('dewey_store_messages_bulk', { messages_file: '../iccm.db' }, ['`messages_file`', 'import folder']);
await refused('dewey_store_messages_bulk', {}, ['`messages`', '`messages_file`']);

const page = await call('dewey_get_conversation', { conversation_id: id, limit: 3, offset: 1 });
assert.deepEqual(page.messages.map((message) => message.turn), [2, 3, 4]);
assert.deepEqual(page.messages[0].content, blocks);
assert.equal(page.metadata.title, 'From TypeScript');
const whole = await call('dewey_get_conversation', { conversation_id: id });
assert.deepEqual(whole.messages.map((message) => message.turn), Array.from({ length: 1202 }, (_, n) => n + 1));

const listed = await call('dewey_list_conversations', { session_id: 'typescript', sort_by: 'created_at', limit: 1 });
assert.equal(listed.total, 2);
assert.equal(listed.conversations[0].id, imported.conversation_id);
await refused('dewey_list_conversations', { limit: 101 }, ['`limit`', '100']);

const found = await call('dewey_search', { query: 'zeppelin', session_id: 'typescript', role: 'user', start_date: '2020-01-01' });
assert.equal(found.total, 1);
assert.equal(found.results[0].message_id, first.message_id);
assert.equal(found.results[0].conversation_metadata.title, 'From TypeScript');

const name = `typescript ${url.slice(0, 4)}`;
const set = await call('dewey_set_startup_context', { name, content: 'Be brief.' });
assert.equal(set.is_active, true);
assert.equal((await call('dewey_get_startup_context', {})).content, 'Be brief.');
assert.equal(await call('dewey_get_startup_context', { name: 'nobody' }), null);
const contexts = await call('dewey_list_startup_contexts', { include_content: true });
assert.deepEqual(contexts.contexts.filter((context) => context.is_active).map((context) => context.name), [name]);
await refused('dewey_delete_startup_context', { name }, ['`force`']);
assert.equal((await call('dewey_delete_startup_context', { name, force: true })).deleted, true);

const templates = await client.listResourceTemplates();
assert.deepEqual(templates.resourceTemplates.map((t) => t.uriTemplate), ['iccm://conversation/{id}', 'iccm://session/{id}']);
const resource = await client.readResource({ uri: `iccm://conversation/${id}` });
assert.equal(JSON.parse(resource.contents[0].text).messages.length, 1202);
const session = await client.readResource({ uri: 'iccm://session/typescript' });
assert.equal(JSON.parse(session.contents[0].text).conversations.length, 2);
assert.ok((await client.listResources()).resources.some((r) => r.uri === `iccm://conversation/${id}`));

const large = 'ä'.repeat(5 << 20);
const tenMegabytes = await call('dewey_store_messages_bulk', { messages: [{ role: 'user', content: large }] });
const back = await call('dewey_get_conversation', { conversation_id: tenMegabytes.conversation_id });
assert.equal(back.messages[0].content, large);

await refused('dewey_delete_conversation', { conversation_id: id }, ['1202 messages']);
const deleted = await call('dewey_delete_conversation', { conversation_id: id, force: true });
assert.equal(deleted.messages_deleted, 1202);
await refused('dewey_get_conversation', { conversation_id: id }, ['`conversation_id`']);
for (const conversation of [imported.conversation_id, tenMegabytes.conversation_id]) {
  await call('dewey_delete_conversation', { conversation_id: conversation, force: true });
}

assert.deepEqual([...called].sort(), tools.map((tool) => tool.name).sort());
await client.close();
console.log(JSON.stringify({ tools: called.size, reports, transport: url.split(':')[0] }));
