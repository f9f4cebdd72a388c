"""What may happen to tenants and keys."""

from commands.accounts import CreateKey, CreateTenant, RevokeKey
from commands.errors import UnknownKey, UnknownTenant
from tests.commands.examples import K, T, key_created, key_revoked, tenant_created
from tests.commands.gwt import given

CREATE_KEY = CreateKey(T, K, "laptop", "ada", "00ff")


def test_a_tenant_is_created_once() -> None:
    given().when(CreateTenant(T, "Rivers")).then(tenant_created)
    given(tenant_created).when(CreateTenant(T, "Rivers")).nothing_happens()


def test_a_key_belongs_to_a_tenant_that_exists() -> None:
    given(tenant_created).when(CREATE_KEY).then(key_created)
    given().when(CREATE_KEY).refused(UnknownTenant(T))


def test_a_key_is_created_once_even_after_it_was_revoked() -> None:
    given(tenant_created, key_created).when(CREATE_KEY).nothing_happens()
    given(tenant_created, key_created, key_revoked).when(CREATE_KEY).nothing_happens()


def test_a_key_is_revoked_once() -> None:
    given(tenant_created, key_created).when(RevokeKey(T, K)).then(key_revoked)
    given(tenant_created, key_created, key_revoked).when(RevokeKey(T, K)).nothing_happens()


def test_a_key_that_does_not_exist_can_not_be_revoked() -> None:
    given(tenant_created).when(RevokeKey(T, K)).refused(UnknownKey(K))
