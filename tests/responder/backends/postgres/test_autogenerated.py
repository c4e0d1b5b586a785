"""Migrations that Alembic and Django generate from models: the responder's downgrade against the tool's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.responder.backends.postgres.conftest import AppDatabase
from tests.responder.backends.postgres.differential import DatabaseCopy
from tests.responder.backends.postgres.projects import ALEMBIC, MANAGE, AlembicProject, DjangoProject
from tests.responder.backends.postgres.test_rollback import approved, content, goes_back, in_a_hurry

_MODELS = """
import enum
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase
class Base(DeclarativeBase): pass
class User(Base):
    __tablename__ = "users"
    id = sa.Column(sa.Integer, primary_key=True)
    email = sa.Column(sa.String(200), unique=True, index=True, nullable=False)
"""
_MORE = """
class Prio(enum.Enum):
    low = 1
    high = 2
class Node(Base):
    __tablename__ = "nodes"
    id = sa.Column(sa.BigInteger, primary_key=True)
    parent_id = sa.Column(sa.ForeignKey("nodes.id"), index=True)
    owner_id = sa.Column(sa.ForeignKey("users.id", ondelete="CASCADE"), index=True)
class Ticket(Base):
    __tablename__ = "tickets"
    id = sa.Column(sa.Integer, sa.Identity(), primary_key=True)
    prio = sa.Column(sa.Enum(Prio), index=True)
    node_id = sa.Column(sa.ForeignKey("nodes.id"), nullable=False)
    title = sa.Column(sa.Text, sa.CheckConstraint("title <> ''"), unique=True)
    tags = sa.Column(sa.ARRAY(sa.Text))
    __table_args__ = (
        sa.UniqueConstraint("node_id", "title", name="one_title"),
        sa.Index("by_tag", "tags", postgresql_using="gin"),
        sa.Index("open_ones", "prio", unique=False, postgresql_where=sa.text("title IS NOT NULL")),
    )
class Link(Base):
    __tablename__ = "links"
    ticket_id = sa.Column(sa.ForeignKey("tickets.id"), primary_key=True)
    user_id = sa.Column(sa.ForeignKey("users.id"), primary_key=True)
    note = sa.Column(sa.Text, index=True)
sa.Column("nick", sa.Text, unique=True, index=True)._set_parent(User.__table__, all_names={}, allow_replacements=True)
User.__table__.append_column(sa.Column("age", sa.SmallInteger, index=True))
"""
_ENV = """
from alembic import context
from sqlalchemy import create_engine
from models import Base
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", literal_binds=True, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()
else:
    with create_engine("postgresql+psycopg://").connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata)
        with context.begin_transaction():
            context.run_migrations()
"""
_TEMPLATE = '''"""${message}"""
from alembic import op
import sqlalchemy as sa
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = depends_on = None
def upgrade():
    ${upgrades if upgrades else "pass"}
def downgrade():
    ${downgrades if downgrades else "pass"}
'''
_ROWS = (
    "INSERT INTO users VALUES (1, 'ann@x', 'ann', 30), (2, 'bob@x', NULL, NULL);"
    "INSERT INTO nodes VALUES (1, 2, 1), (2, NULL, 2);"
    "INSERT INTO tickets (prio, node_id, title, tags) VALUES ('high', 1, 'a', '{x,y}'), ('low', 2, 'b', NULL);"
    "INSERT INTO links VALUES (1, 2, 'n'), (2, 1, NULL)"
)
_TABLES = ("users", "nodes", "tickets", "links")


def _run(argv: list[str], directory: Path, shop: AppDatabase) -> None:
    with shop.schemas.environment("shop") as environment:
        ran = subprocess.run(argv, cwd=directory, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


async def generated(shop: AppDatabase, tmp_path: Path) -> AlembicProject:
    """A project whose revisions a1 and a2 Alembic has generated from models."""
    project = AlembicProject(tmp_path / "alembic")
    (project.directory / "m" / "env.py").write_text(_ENV)
    (project.directory / "m" / "script.py.mako").write_text(_TEMPLATE)
    for revision, models in (("a1", _MODELS), ("a2", _MODELS + _MORE)):
        (project.directory / "models.py").write_text(models)
        _run([*ALEMBIC, "revision", "--autogenerate", "--rev-id", revision, "-m", revision], project.directory, shop)
        await project.upgrade(shop)
    await shop.run(_ROWS)
    return project


async def test_migrations_generated_by_alembic_are_reverted(shop: AppDatabase, tmp_path: Path) -> None:
    project = await generated(shop, tmp_path)
    down = next((project.directory / "m" / "versions").glob("a2*")).read_text().split("def downgrade")[1]
    assert down.index("drop_index") < down.index("drop_table"), down  # otherwise the test proves nothing
    before = await content(shop, *_TABLES)
    twin = DatabaseCopy(shop)
    await twin.split()
    _run([*ALEMBIC, "downgrade", "a1"], project.directory, twin.copy)
    await goes_back(shop.rollback("a2", "a1", tool=project.tool))
    assert await twin.differences() == []
    assert await shop.rows("SELECT version_num FROM alembic_version") == [("a1",)]
    await shop.run("ALTER TYPE prio SET SCHEMA rollback_keep")  # left behind, so the upgrade could not create it
    await project.upgrade(shop)
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    assert await content(shop, *_TABLES) == before


async def test_migrations_generated_by_alembic_are_reverted_to_base(shop: AppDatabase, tmp_path: Path) -> None:
    project = await generated(shop, tmp_path)
    twin = DatabaseCopy(shop)
    await twin.split()
    _run([*ALEMBIC, "downgrade", "base"], project.directory, twin.copy)
    await goes_back(shop.rollback("a2", "base", tool=project.tool))
    assert await twin.differences() == []


_DJANGO_MODELS = """
from django.db import models
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.fields import ArrayField
class Fan(models.Model):
    email = models.EmailField(unique=True)
"""
_DJANGO_MORE = """
    nick = models.SlugField(null=True, unique=True)
class Node(models.Model):
    parent = models.ForeignKey("self", models.CASCADE, null=True)
    fans = models.ManyToManyField(Fan)
    title = models.CharField(max_length=50, db_index=True)
    tags = ArrayField(models.TextField(), null=True)
    class Meta:
        unique_together = [("parent", "title")]
        indexes = [GinIndex(fields=["tags"], name="by_tag"), models.Index(fields=["title", "parent"], name="by_both")]
        constraints = [models.CheckConstraint(condition=~models.Q(title=""), name="has_title")]
class Ticket(models.Model):
    id = models.UUIDField(primary_key=True)
    node = models.OneToOneField(Node, models.CASCADE)
"""
_DJANGO_ROWS = (
    "INSERT INTO users_fan (email, nick) VALUES ('ann@x', 'ann'), ('bob@x', NULL);"
    "INSERT INTO users_node (title, parent_id, tags) VALUES ('a', NULL, '{x}'), ('b', 1, NULL);"
    "INSERT INTO users_node_fans (node_id, fan_id) VALUES (1, 2), (2, 1);"
    "INSERT INTO users_ticket VALUES ('00000000-0000-0000-0000-000000000001', 2)"
)
_DJANGO_TABLES = ("users_fan", "users_node", "users_node_fans", "users_ticket")


@pytest.fixture
async def django(shop: AppDatabase) -> DjangoProject:
    """A project whose migrations 0001_one and 0002_two Django has generated from models."""
    project = DjangoProject(shop.directory / "django")
    for name, models in (("one", _DJANGO_MODELS), ("two", _DJANGO_MODELS + _DJANGO_MORE)):
        (project.directory / "users" / "models.py").write_text(models)
        _run([*MANAGE, "makemigrations", "users", "-n", name], project.directory, shop)
        await project.migrate(shop)
    await shop.run(_DJANGO_ROWS)
    return project


async def test_migrations_generated_by_django_are_reverted(shop: AppDatabase, django: DjangoProject) -> None:
    before = await content(shop, *_DJANGO_TABLES)
    twin = DatabaseCopy(shop)
    await twin.split()
    await django.migrate(twin.copy, "users", "0001_one")
    await goes_back(shop.rollback("0002_two", "0001_one", tool=django.tool("users")))
    assert await twin.differences() == []
    await django.migrate(shop)
    await shop.schemas.restore_preserved("shop", "drill-1", overwrite=True, dry_run=False)
    assert await content(shop, *_DJANGO_TABLES) == before


async def comes_back(shop: AppDatabase, versions: tuple[str, str], tool: Any, tables: tuple[str, ...]) -> None:
    before = await content(shop, *tables)
    rollback = shop.rollback(*versions, tool=tool, smoke=[{"sql": "SELECT false", "database": "shop"}])
    ended = await rollback.run(through=lambda plan: in_a_hurry(approved(plan)))
    assert (ended.state, ended.outcome) == ("closed", "reverted"), ended.reason
    assert await content(shop, *tables) == before


async def test_migrations_generated_by_alembic_run_again(shop: AppDatabase, tmp_path: Path) -> None:
    """Also the type that the generated downgrade leaves behind."""
    project = await generated(shop, tmp_path)
    await comes_back(shop, ("a2", "a1"), project.tool, _TABLES)


async def test_migrations_generated_by_django_run_again(shop: AppDatabase, django: DjangoProject) -> None:
    await comes_back(shop, ("0002_two", "0001_one"), django.tool("users"), _DJANGO_TABLES)
