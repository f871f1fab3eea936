"""HTTP to MCP servers by addresses that were looked at: what the SDK's client connects to is what was checked."""

import httpx2

from agentrft.traffic.addresses import checked_address


class CheckedTransport(httpx2.AsyncHTTPTransport):
    """Connects to an address of the URL's host, if jobs may reach it; the host stays in its header and certificate."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises httpx2.ConnectError also where the address may not be reached."""
        host = request.url.host
        try:
            address = await checked_address(host, request.url.port)
        except OSError as error:
            raise httpx2.ConnectError(str(error), request=request) from error
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        return await super().handle_async_request(request)
