"""The tables of `histories@1`, and the statements that write them: each takes a whole batch."""

TABLES = """
CREATE TABLE IF NOT EXISTS {main} (
    conversation uuid PRIMARY KEY,
    tenant uuid NOT NULL,
    subject text NOT NULL,
    kind text NOT NULL,
    created_at timestamptz NOT NULL,
    last_activity timestamptz NOT NULL,
    title text,
    opening text,
    metadata jsonb NOT NULL,
    archived bool NOT NULL,
    deleted bool NOT NULL,
    head uuid,
    model text,
    messages int NOT NULL,
    answers int NOT NULL,
    read_position bigint NOT NULL,
    unread jsonb NOT NULL,     -- positions of ends behind read_position
    answering jsonb NOT NULL,  -- open answers, with the positions of their requests
    position bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS {main_nodes} (
    conversation uuid NOT NULL,
    position bigint NOT NULL,
    node uuid NOT NULL,
    parent uuid,
    role text NOT NULL,
    created_at timestamptz NOT NULL,
    text text,
    text_bytes int,
    attachments text,
    edits uuid,
    model text,
    band text,
    status text,
    reason text,
    error text,
    prompt_tokens bigint,
    completion_tokens bigint,
    ended_at timestamptz,
    ended_position bigint,
    scope text,  -- a lexeme for whose node it is; null: it is not searched
    -- A tsvector holds at most 1 MB and a GIN entry 2.7 kB. Words above 2 kB are left out by
    -- Postgres; 50,000 characters can't exceed the rest, whatever they are.
    words tsvector GENERATED ALWAYS AS (
        CASE WHEN scope IS NOT NULL THEN
            to_tsvector('simple'::regconfig, left(text, 50000)) || array_to_tsvector(ARRAY[scope])
        END
    ) STORED,
    PRIMARY KEY (conversation, position)
);

-- For the feed: which number a subject's last change has, and the last change of each conversation.
CREATE TABLE IF NOT EXISTS {main_heads} (
    tenant uuid NOT NULL, subject text NOT NULL, number bigint NOT NULL,
    taken int NOT NULL,  -- how many numbers the last batch took, up to `number`
    PRIMARY KEY (tenant, subject));
CREATE TABLE IF NOT EXISTS {main_numbers} (
    conversation uuid PRIMARY KEY,
    tenant uuid NOT NULL,
    subject text NOT NULL,
    number bigint NOT NULL);
CREATE INDEX IF NOT EXISTS {main_by_number} ON {main_numbers} (tenant, subject, number);
"""

# Apart from the tables: a rebuild makes them once the rows are there.
INDEXES = """
CREATE INDEX IF NOT EXISTS {main_by_activity} ON {main}
    (tenant, subject, last_activity DESC, conversation DESC)
    WHERE kind = 'conversation' AND NOT deleted;
CREATE INDEX IF NOT EXISTS {main_completions} ON {main}
    (tenant, created_at DESC, conversation DESC) WHERE kind = 'completion' AND NOT deleted;
CREATE INDEX IF NOT EXISTS {main_metadata} ON {main} USING gin (metadata jsonb_path_ops)
    WITH (gin_pending_list_limit = 512) WHERE kind = 'completion' AND NOT deleted;
CREATE INDEX IF NOT EXISTS {main_words} ON {main_nodes} USING gin (words)
    WITH (gin_pending_list_limit = 512);  -- kB; a search reads all that is pending
"""

LOAD_ROWS = """
SELECT conversation, tenant, subject, kind, created_at, last_activity, title, metadata, position,
       opening, archived, deleted, head, model, messages, answers, read_position, unread, answering
FROM {main} WHERE conversation = ANY(%s)
"""

# jsonb comes as text: an array of arrays would be taken apart by unnest.
SAVE_ROWS = """
INSERT INTO {main} AS known (
    conversation, tenant, subject, kind, created_at, last_activity, title, metadata, position,
    opening, archived, deleted, head, model, messages, answers, read_position, unread, answering)
SELECT * FROM unnest(
    %s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[],
    %s::text[], %s::jsonb[], %s::bigint[], %s::text[], %s::bool[], %s::bool[], %s::uuid[],
    %s::text[], %s::int[], %s::int[], %s::bigint[], %s::jsonb[], %s::jsonb[])
ON CONFLICT (conversation) DO UPDATE SET
    last_activity = excluded.last_activity, title = excluded.title, metadata = excluded.metadata,
    position = excluded.position, opening = excluded.opening, archived = excluded.archived,
    deleted = excluded.deleted, head = excluded.head, model = excluded.model,
    messages = excluded.messages, answers = excluded.answers,
    read_position = excluded.read_position, unread = excluded.unread,
    answering = excluded.answering
"""

ADD_NODES = """
INSERT INTO {main_nodes} (
    conversation, position, node, parent, role, created_at, text, text_bytes, attachments, edits,
    model, band, status, reason, error, prompt_tokens, completion_tokens, ended_at, ended_position,
    scope)
SELECT * FROM unnest(
    %s::uuid[], %s::bigint[], %s::uuid[], %s::uuid[], %s::text[], %s::timestamptz[], %s::text[],
    %s::int[], %s::text[], %s::uuid[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
    %s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[], %s::text[])
"""

CANCELLING = """
UPDATE {main_nodes} AS known SET status = 'cancelling'
FROM unnest(%s::uuid[], %s::bigint[]) AS new (conversation, position)
WHERE known.conversation = new.conversation AND known.position = new.position
"""

END_NODES = """
UPDATE {main_nodes} AS known SET
    text = new.text, text_bytes = new.text_bytes, status = new.status, reason = new.reason,
    error = new.error, prompt_tokens = new.prompt_tokens,
    completion_tokens = new.completion_tokens, ended_at = new.ended_at,
    ended_position = new.ended_position
FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::int[], %s::text[], %s::text[], %s::text[],
            %s::bigint[], %s::bigint[], %s::timestamptz[], %s::bigint[])
    AS new (conversation, position, text, text_bytes, status, reason, error, prompt_tokens,
            completion_tokens, ended_at, ended_position)
WHERE known.conversation = new.conversation AND known.position = new.position
"""

WIPE_NODES = "DELETE FROM {main_nodes} WHERE conversation = ANY(%s)"

# In the order of their keys, so that two writers never wait for each other in a circle. The lock on
# the row is held until the commit: numbers of one subject are seen in their order. The clock makes
# each greater than all that were given before a crash of Postgres lost the last commits.
TAKE_NUMBERS = """
INSERT INTO {main_heads} AS known (tenant, subject, number, taken)
SELECT tenant, subject, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + taken - 1,
       taken
FROM unnest(%s::uuid[], %s::text[], %s::int[]) AS new (tenant, subject, taken)
ORDER BY tenant, subject COLLATE "C"
ON CONFLICT (tenant, subject) DO UPDATE SET
    number = greatest(excluded.number, known.number + excluded.taken), taken = excluded.taken
RETURNING tenant, subject, number
"""

GIVE_NUMBERS = """
INSERT INTO {main_numbers} (conversation, tenant, subject, number)
SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::bigint[])
ON CONFLICT (conversation) DO UPDATE SET number = excluded.number
"""

NOTIFY = "SELECT pg_notify(%s, %s)"

# Of a switch: what the feed's cursors count with comes from the build that was live.
FORGET_NUMBERS = "TRUNCATE {main_heads}, {main_numbers}"
COPY_HEADS = "INSERT INTO {main_heads} SELECT * FROM {former_heads}"
COPY_NUMBERS = "INSERT INTO {main_numbers} SELECT * FROM {former_numbers}"
AHEAD = """
SELECT mine.conversation, mine.tenant, mine.subject
FROM {main} AS mine LEFT JOIN {former} AS theirs USING (conversation)
WHERE mine.kind = 'conversation' AND coalesce(theirs.position, 0) < mine.position
"""
