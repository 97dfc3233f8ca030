"""FastAPI, with the `ConnectionManager` of its documents' chapter on WebSockets, one for each room."""

from collections import defaultdict

from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect


class ConnectionManager:
    def __init__(self) -> None:
        self.active_connections: list[WebSocket] = []

    async def connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.active_connections.append(websocket)

    def disconnect(self, websocket: WebSocket) -> None:
        self.active_connections.remove(websocket)

    async def broadcast(self, message: str) -> None:
        # A copy: members come and go while this waits.
        for connection in list(self.active_connections):
            await connection.send_text(message)


app = FastAPI()
rooms: defaultdict[str, ConnectionManager] = defaultdict(ConnectionManager)


@app.websocket("/sub/{room}")
async def subscribe(websocket: WebSocket, room: str) -> None:
    manager = rooms[room]
    await manager.connect(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        manager.disconnect(websocket)


@app.post("/pub/{room}", status_code=204)
async def publish(room: str, request: Request) -> Response:
    await rooms[room].broadcast((await request.body()).decode())
    return Response(status_code=204)
