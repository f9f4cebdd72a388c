import asyncio, time
from tests.contracts.live_streams.test_whole import *
async def test_latency(world):
    async with world.recorder():
        answer = await world.an_answer(); seen=[]
        stamps={}
        async def read():
            async with aclosing(world.streams.read(answer.ref)) as s:
                async for e in s:
                    if e is not IDLE: stamps[e.index]=time.perf_counter(); seen.append(e)
        t=asyncio.create_task(read())
        await answer.say(3)
        await becomes(lambda: len(seen)==3)
        sent={}; ack={}
        for i in range(3,203):
            sent[i]=time.perf_counter()
            await answer.say(1); ack[i]=time.perf_counter()
            await asyncio.sleep(0.01)
        await becomes(lambda: len(seen)==203)
        d=sorted(stamps[i]-sent[i] for i in sent); a=sorted(ack[i]-sent[i] for i in sent)
        print("\nLAT seen p50 %.2f p95 %.2f ms; ack p50 %.2f"%(d[100]*1e3,d[190]*1e3,a[100]*1e3))
        answers=[await world.an_answer() for _ in range(64)]
        outs=[[] for _ in answers]
        ts=[asyncio.create_task(world.read(x,o)) for x,o in zip(answers,outs)]
        c=time.process_time(); t0=time.perf_counter()
        async def go(x):
            for _ in range(10): await x.say(1)
            await x.end()
        await asyncio.gather(*(go(x) for x in answers)); await asyncio.gather(*ts)
        print("64 answers x 11: %.2f s, cpu %.2f"%(time.perf_counter()-t0,time.process_time()-c))
        for x in answers: await is_recorded(world,x)
        print("recorded after %.2f"%(time.perf_counter()-t0))
        t.cancel(); await asyncio.gather(t, return_exceptions=True)
