// What Claude Code asks at its first start, answered: theme, onboarding, trust in the workspace, the key of the environment;
// and the MCP relay, with the servers of CLAUDETTE_MCP_SERVERS behind the spy. What is there already stays.
"use strict";
const fs = require("fs");
const path = require("path");

const folder = process.env.CLAUDE_CONFIG_DIR;
const recorder = new URL(process.env.ANTHROPIC_BASE_URL).hostname;

function write(file, content) {
  // In one step: whoever reads meanwhile reads the old or the new.
  const draft = `${file}.${process.pid}`;
  fs.writeFileSync(draft, JSON.stringify(content, null, 2), { mode: 0o600 });
  fs.renameSync(draft, file);
}

function read(file) {
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, "utf8")) : {};
}

const stateFile = path.join(folder, ".claude.json");
const state = read(stateFile);
state.hasCompletedOnboarding = true;
state.theme ??= "dark";
state.projects ??= {};
state.projects[process.cwd()] = { allowedTools: [], ...state.projects[process.cwd()], hasTrustDialogAccepted: true };
state.mcpServers ??= {};
state.mcpServers.relay ??= { command: "iccm", args: ["relay"] };
const key = process.env.ANTHROPIC_API_KEY;
if (key) {
  // Claude Code remembers an approved key by its end.
  state.customApiKeyResponses ??= { approved: [], rejected: [] };
  const end = key.slice(-20);
  if (!state.customApiKeyResponses.approved.includes(end)) state.customApiKeyResponses.approved.push(end);
}
write(stateFile, state);

const relayFile = process.env.ICCM_RELAY_CONFIG;
const relay = read(relayFile);
relay.mcpServers ??= {};
for (const name of (process.env.CLAUDETTE_MCP_SERVERS ?? "dewey").split(/[\s,]+/).filter(Boolean)) {
  relay.mcpServers[name] ??= { type: "ws", url: `ws://${recorder}:9000?upstream=${name}` };
}
write(relayFile, relay);
