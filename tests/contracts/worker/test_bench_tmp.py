import asyncio, time, cProfile
async def test_bench(installation, start_worker):
    asks=[installation.ask("tokens=20 delay_ms=0") for _ in range(600)]
    answers=[]
    for i in range(0,600,50):
        answers+= [a for _,a,_ in await asyncio.gather(*asks[i:i+50])]
    w=start_worker()
    await installation.until(lambda: len(installation.log.records)>0,"first")
    import psutil
    t=time.monotonic(); c0=sum(psutil.Process(w.pid).cpu_times()[:2])
    await installation.until(lambda: all(installation.log.of(a).end for a in answers),"all")
    c1=sum(psutil.Process(w.pid).cpu_times()[:2]); print(f"worker cpu {1e3*(c1-c0)/600:.2f} ms per answer")
    dt=time.monotonic()-t
    n=len(installation.log.records)
    print(f"\n600 answers in {dt:.2f} s = {600/dt:.0f}/s, {n} records = {n/600:.1f} per answer")
    await installation.acknowledged()
async def test_single_latency(installation, start_worker):
    start_worker()
    _,a,_=await installation.ask("tokens=1"); await installation.ended(a)
    first=[];chunks=[];
    for _ in range(60):
        stream=None
        t0=time.perf_counter()
        _,a,_=await installation.ask("tokens=20 delay_ms=20")
        t=time.perf_counter()
        while not installation.log.chunks(a): await asyncio.sleep(0.0003)
        first.append(time.perf_counter()-t)
        if len(first)<6: await installation.ended(a); chunks.append(len(installation.log.chunks(a)))
    first.sort(); print(f"\nfrom produce acknowledged to first chunk read: p50 {first[30]*1e3:.1f} p90 {first[54]*1e3:.1f} ms; chunks {chunks}")
