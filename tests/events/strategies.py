"""Any event, token record and entry that there can be."""

from datetime import UTC
from typing import Any

from hypothesis import strategies as st

from events.accounts import KeyCreated, KeyRevoked, TenantCreated
from events.answers import Chunk, Claim, ClaimId, End, Entry, EntryEnd, TokenRecord
from events.conversations import (
    AnswerAskedAgain,
    AnswerCancelRequested,
    AnswerEnded,
    AnswerRequested,
    Attachment,
    Band,
    BranchChosen,
    ConversationArchived,
    ConversationDeleted,
    ConversationRead,
    ConversationRenamed,
    ConversationStarted,
    ConversationUnarchived,
    EndKind,
    Kind,
    MessagePosted,
    MetadataReplaced,
    Role,
    Sampling,
    Seam,
    TokenLogprob,
    Usage,
)
from events.envelope import Event, Meta, Recorded

Anything = st.SearchStrategy[Any]

ids: Anything = st.uuids()
texts = st.text(max_size=30)
"""Whatever JSON can hold, NUL included; lone surrogates are refused at the door."""
counts = st.integers(min_value=0, max_value=2**40)
fractions = st.floats(allow_nan=False, allow_infinity=False)
usages = st.builds(Usage, prompt_tokens=counts, completion_tokens=counts)
samplings = st.builds(
    Sampling,
    max_tokens=st.integers(1, 2**20),
    temperature=st.none() | fractions,
    top_p=st.none() | fractions,
    seed=st.none() | st.integers(0, 2**63),
    stop=st.lists(texts, max_size=3).map(tuple),
    frequency_penalty=st.none() | fractions,
    presence_penalty=st.none() | fractions,
    logprobs=st.booleans(),
    top_logprobs=st.integers(0, 5),
)
token_logprobs = st.builds(
    TokenLogprob,
    token=texts,
    logprob=fractions,
    top=st.lists(st.tuples(texts, fractions), max_size=2).map(tuple),
)
logprobs = st.lists(token_logprobs, max_size=2).map(tuple)
attachments = st.builds(
    Attachment,
    uri=texts,
    name=st.none() | texts,
    media_type=st.none() | texts,
    bytes=st.none() | counts,
)
metadata = st.dictionaries(texts, texts, max_size=2)
seams = st.builds(Seam, index=counts, model=texts)

EVENTS: dict[type[Event], st.SearchStrategy[Any]] = {
    TenantCreated: st.builds(TenantCreated, tenant=ids, name=texts),
    KeyCreated: st.builds(KeyCreated, tenant=ids, key=ids, name=texts, owner=texts, key_hash=texts),
    KeyRevoked: st.builds(KeyRevoked, tenant=ids, key=ids),
    ConversationStarted: st.builds(
        ConversationStarted,
        conversation=ids,
        kind=st.sampled_from(Kind),
        stored=st.booleans(),
        title=st.none() | texts,
        metadata=metadata,
    ),
    ConversationRenamed: st.builds(ConversationRenamed, conversation=ids, title=st.none() | texts),
    MetadataReplaced: st.builds(MetadataReplaced, conversation=ids, metadata=metadata),
    ConversationArchived: st.builds(ConversationArchived, conversation=ids),
    ConversationUnarchived: st.builds(ConversationUnarchived, conversation=ids),
    ConversationDeleted: st.builds(ConversationDeleted, conversation=ids),
    ConversationRead: st.builds(ConversationRead, conversation=ids, position=counts),
    BranchChosen: st.builds(BranchChosen, conversation=ids, head=ids),
    MessagePosted: st.builds(
        MessagePosted,
        conversation=ids,
        message=ids,
        role=st.sampled_from(Role),
        content=texts,
        parent=st.none() | ids,
        attachments=st.lists(attachments, max_size=2).map(tuple),
        edits=st.none() | ids,
    ),
    AnswerRequested: st.builds(
        AnswerRequested,
        conversation=ids,
        answer=ids,
        parent=ids,
        model=texts,
        band=st.sampled_from(Band),
        deadline_seconds=fractions,
        sampling=samplings,
    ),
    AnswerAskedAgain: st.builds(
        AnswerAskedAgain,
        conversation=ids,
        answer=ids,
        model=texts,
        band=st.sampled_from(Band),
        times=counts,
    ),
    AnswerCancelRequested: st.builds(AnswerCancelRequested, conversation=ids, answer=ids),
    AnswerEnded: st.builds(
        AnswerEnded,
        conversation=ids,
        answer=ids,
        kind=st.sampled_from(EndKind),
        reason=texts,
        error=st.none() | texts,
        text=texts,
        chunk_lengths=st.lists(counts, max_size=5).map(tuple),
        logprobs=st.none() | st.lists(logprobs, max_size=3).map(tuple),
        seams=st.lists(seams, max_size=3).map(tuple),
        usage=usages,
    ),
}

metas = st.builds(
    Meta,
    tenant=ids,
    command=texts,
    actor=texts,
    subject=texts,
    time=st.datetimes(timezones=st.just(UTC)),
    correlation=ids,
    causation=st.none() | ids,
    traceparent=st.none() | texts,
)
recorded = st.builds(
    Recorded,
    id=ids,
    stream=ids,
    position=st.integers(1, 2**40),
    meta=metas,
    event=st.one_of(*EVENTS.values()),
)

claim_ids = st.builds(ClaimId, st.integers(-1, 2**31), ids)
claims = st.builds(
    Claim,
    answer=ids,
    claim=claim_ids,
    worker=texts,
    model=texts,
    protocol=counts,
    traceparent=st.none() | texts,
)
chunks = st.builds(
    Chunk,
    answer=ids,
    claim=claim_ids,
    index=counts,
    text=texts,
    tokens=counts,
    seam=st.booleans(),
    token_ids=st.none() | st.lists(counts, max_size=5).map(tuple),
    logprobs=logprobs,
)
ends = st.builds(
    End,
    answer=ids,
    claim=claim_ids,
    index=counts,
    kind=st.sampled_from(EndKind),
    reason=texts,
    error=st.none() | texts,
    text=texts,
    tokens=counts,
    usage=usages,
    logprobs=logprobs,
)
token_records: st.SearchStrategy[TokenRecord] = st.one_of(claims, chunks, ends)

entry_ends = st.builds(
    EntryEnd,
    kind=st.sampled_from(EndKind),
    reason=texts,
    error=st.none() | texts,
    usage=usages,
)
any_entries = st.builds(
    Entry, index=counts, text=texts, end=st.none() | entry_ends, logprobs=logprobs
)
