"""The tables of files and of uploads under way, which PostgreSQL must hold for the services."""

from __future__ import annotations

import asyncpg

from harness.lab.services.database import DATABASE, USER

SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id text COLLATE "C" PRIMARY KEY,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    content_type text NOT NULL,
    owner text NOT NULL,
    region text NOT NULL,
    object_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);
CREATE INDEX IF NOT EXISTS files_created_at ON files (created_at);
CREATE TABLE IF NOT EXISTS uploads (
    token text PRIMARY KEY,
    file_id text NOT NULL,
    owner text NOT NULL,
    content_type text NOT NULL,
    sha256 text NOT NULL,
    size_bytes bigint NOT NULL,
    offset_bytes bigint NOT NULL DEFAULT 0,
    parts text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);
"""


async def apply_schema(host: str, port: int, *, user: str = USER, database: str = DATABASE) -> None:
    """Create what is missing of :data:`SCHEMA`; repeatable. Raises asyncpg and OS errors."""
    connection = await asyncpg.connect(
        host=host, port=port, user=user, database=database, ssl=False, timeout=5.0
    )
    try:
        await connection.execute(SCHEMA)
    finally:
        await connection.close()
