"""Ray Serve's choice of a replica: a stream's requests name the one that holds it. Ray imports it by name."""

from __future__ import annotations

from ray.serve._private.request_router.common import PendingRequest
from ray.serve._private.request_router.replica_wrapper import RunningReplica
from ray.serve.experimental.consistent_hash_router import ConsistentHashRouter


class HomeRouter(ConsistentHashRouter):
    """A request whose session is the id of a replica goes there and nowhere else; others are dealt by a hash.

    A hash of the stream's name alone would send some streams elsewhere whenever a replica comes or goes.
    """

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """See RequestRouter."""
        if pending_request is not None:
            home = pending_request.metadata.session_id
            for replica in candidate_replicas:
                if replica.replica_id.unique_id == home:
                    # A full queue is waited for.
                    pending_request.routing_context.should_backoff = True
                    return [[replica]]
        return await super().choose_replicas(candidate_replicas, pending_request)
