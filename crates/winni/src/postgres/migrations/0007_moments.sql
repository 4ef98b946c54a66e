-- When a message was said stands beside its words, so that a search between two moments need not visit each message that it
-- finds. Where it is missing the message tells it.
ALTER TABLE message_words ADD created_at timestamptz;
