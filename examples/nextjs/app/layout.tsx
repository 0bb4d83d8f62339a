import type { Metadata } from "next";
import Link from "next/link";
import type { ReactNode } from "react";

export const metadata: Metadata = { title: "A blog on Next.js" };

const PAGES = { "/": "Posts", "/trending": "Trending", "/downloads": "Downloads", "/join": "Join", "/contact": "Contact" };

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body style={{ fontFamily: "system-ui, sans-serif", maxWidth: "40rem", margin: "2rem auto" }}>
        <nav style={{ display: "flex", gap: "1rem" }}>
          {Object.entries(PAGES).map(([href, name]) => (
            <Link key={href} href={href}>
              {name}
            </Link>
          ))}
        </nav>
        <main>{children}</main>
      </body>
    </html>
  );
}
