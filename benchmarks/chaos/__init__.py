"""Takes of real processes, of which any may be killed, frozen, cut or cancelled at any moment.

    python -m benchmarks.chaos --rounds 200 --seed 1 [--jobs 3]
    python -m benchmarks.chaos --round 17 --seed 1

Each round is one take over cameras of some of the five systems, all of them processes of their own. What is
done to them, and when, follows from the seed. What the dead leave behind is finished by ``asynccam resume``.
Then the take is held against what is known without asynccam: the devices' disks and processes, and the time
of day that their pictures show.
"""
