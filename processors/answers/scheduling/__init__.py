"""Which request is answered next, and by which engine. Pure: time, load and chance come in."""
