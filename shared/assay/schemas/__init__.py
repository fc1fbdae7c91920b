"""Everything that crosses a wire, as pydantic models. Imports no torch, ray or fastapi."""
