// What programs that are not ours make of a .glb or .vrma: one JSON object on stdout. Packages come from NODE_PATH.
//   node gltf_judges.cjs packages               which of them can be loaded
//   node gltf_judges.cjs validate FILE          Khronos' gltf-validator: its issues
//   node gltf_judges.cjs three FILE TIME...     three.js: where each node is at each time [s], its +Z, the mesh's vertices
//   node gltf_judges.cjs avatar FILE TIME...    @pixiv/three-vrm-animation: the turns of VRM's bones, and the hips
const fs = require("fs");
const path = require("path");
const { pathToFileURL } = require("url");

const PACKAGES = ["gltf-validator", "three", "@pixiv/three-vrm-animation"];

function folder(name) {
  const entry = require.resolve(name);
  return entry.slice(0, entry.lastIndexOf(path.join("node_modules", name)) + path.join("node_modules", name).length);
}

const load = (file) => import(pathToFileURL(file).href);

async function parsed(file, plugin) {
  const THREE = await load(path.join(folder("three"), "build/three.module.js"));
  const { GLTFLoader } = await load(path.join(folder("three"), "examples/jsm/loaders/GLTFLoader.js"));
  const loader = new GLTFLoader();
  if (plugin) loader.register(plugin);
  const bytes = fs.readFileSync(file);
  const gltf = await loader.parseAsync(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), "");
  return { THREE, gltf };
}

const said = {
  packages: async () => PACKAGES.filter((name) => { try { return folder(name); } catch { return false; } }),

  validate: async (file) =>
    (await require("gltf-validator").validateBytes(new Uint8Array(fs.readFileSync(file)))).issues.messages,

  three: async (file, ...times) => {
    const { THREE, gltf } = await parsed(file);
    const mixer = new THREE.AnimationMixer(gltf.scene);
    const action = mixer.clipAction(gltf.animations[0]).setLoop(THREE.LoopOnce);
    action.clampWhenFinished = true;
    action.play();
    return times.map((time) => {
      mixer.setTime(Number(time));
      gltf.scene.updateMatrixWorld(true);
      const found = { at: {}, forward: {}, vertices: [] };
      gltf.scene.traverse((node) => {
        found.at[node.name] = node.getWorldPosition(new THREE.Vector3()).toArray();
        const turn = node.getWorldQuaternion(new THREE.Quaternion());
        found.forward[node.name] = new THREE.Vector3(0, 0, 1).applyQuaternion(turn).toArray();
        for (let i = 0; node.isSkinnedMesh && i < node.geometry.attributes.position.count; i++)
          found.vertices.push(node.getVertexPosition(i, new THREE.Vector3()).toArray());
      });
      return found;
    });
  },

  avatar: async (file, ...times) => {
    const { VRMAnimationLoaderPlugin } = await load(
      path.join(folder("@pixiv/three-vrm-animation"), "lib/three-vrm-animation.module.js"));
    const { gltf } = await parsed(file, (parser) => new VRMAnimationLoaderPlugin(parser));
    const animation = gltf.userData.vrmAnimations[0];
    const at = (track, time) => Array.from(track.createInterpolant(new Float32Array(track.getValueSize())).evaluate(time));
    return {
      seconds: animation.duration,
      rest_hips: animation.restHipsPosition.toArray(),
      frames: times.map((time) => ({
        hips: at(animation.humanoidTracks.translation.get("hips"), Number(time)),
        turns: Object.fromEntries([...animation.humanoidTracks.rotation].map(([bone, track]) => [bone, at(track, Number(time))])),
      })),
    };
  },
};

said[process.argv[2]](...process.argv.slice(3)).then((found) => console.log(JSON.stringify(found)));
