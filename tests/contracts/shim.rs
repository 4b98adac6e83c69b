//! scratch
#[test]
fn smoke() {
    let _k = crate::tokens::kryoptic::Kryoptic::new();
    let _n = crate::tokens::nss::Nss::new();
    let t = std::time::Instant::now();
    let _o = crate::tokens::opencryptoki::Opencryptoki::new();
    println!("ock {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let _p = crate::tokens::p11kit::P11kit::new();
    println!("p11 {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let x = crate::tokens::tpm2::Tpm2::new();
    println!("tpm {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let y = crate::tokens::tpm2::Tpm2::new();
    println!("tpm2 {:?}", t.elapsed());
    let out = y.place.run(
        "pkcs11-tool",
        &[
            "--module",
            "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
            "--token-label",
            "kek-test",
            "--login",
            "--pin",
            "12345678",
            "-O",
        ],
        &y.env(),
    );
    println!("{out}");
    drop(x);
}
